# SPDX-License-Identifier: Apache-2.0
"""Photographs of ImageNet's usual size, cut out of those that packages ship."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 384
WIDTH, HEIGHT = 500, 375  # ImageNet's mean
QUALITY = 97  # about 100 KB each, as in ImageNet
OF_SCIKIT_IMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")


def write_photographs(folder: Path, count: int) -> list[Path]:
    """`count` different cuts as JPEG files, 4:2:0."""
    photos, random, paths = list(originals()), np.random.RandomState(0), []
    for number in range(count):
        photo = photos[number % len(photos)]
        scale = max(WIDTH / photo.width, HEIGHT / photo.height, random.uniform(0.6, 1))
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
        left, top = random.randint(0, photo.width - WIDTH + 1), random.randint(0, photo.height - HEIGHT + 1)
        paths.append(folder / f"{number:03d}.JPEG")
        photo.crop((left, top, left + WIDTH, top + HEIGHT)).save(paths[-1], quality=QUALITY, subsampling="4:2:0")
    return paths


def originals() -> Iterator[Image.Image]:
    """The two photographs that scikit-learn ships, and scikit-image's if it is installed."""
    from sklearn.datasets import load_sample_images

    yield from (Image.fromarray(pixels) for pixels in load_sample_images().images)
    spec = importlib.util.find_spec("skimage")
    if spec is not None and spec.origin is not None:
        data = Path(spec.origin).parent / "data"
        yield from (Image.open(data / name).convert("RGB") for name in OF_SCIKIT_IMAGE if (data / name).exists())
