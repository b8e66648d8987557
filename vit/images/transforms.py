# SPDX-License-Identifier: Apache-2.0
"""What is done to one image: a picture (H, W, 3) and a generator, which is all the randomness -> pixels (S, S, 3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from vit.images.pixels import Picture
from vit.images.rand_augment import RandAugment, parse
from vit.images.resize import MOST_GROWTH, Resizer, mirrored

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Transform = Callable[[Picture, int, np.random.RandomState], Pixels]

PLAIN = Resizer()  # bilinear, antialiased
CROP_AREA = (0.05, 1.0)  # of the reference: vit_jax/input_pipeline.py, sample_distorted_bounding_box
CROP_ASPECT = (3 / 4, 4 / 3)
CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop, then the whole image
SHIFT_FRACTION = 16  # shift moves by up to side / 16: 2 of 32 px


def squash(image: Picture, side: int, _: np.random.RandomState, *, resizer: Resizer = PLAIN) -> Pixels:
    """Return the whole image at side x side, aspect not kept: the protocol of the published results."""
    return resizer(image[:, :], side, side)


def centre_crop(crop_pct: float, resizer: Resizer = PLAIN) -> Transform:
    """The transform that resizes the shorter side to side / crop_pct and takes the centre, as timm and torchvision.

    Of a long, thin image only what the centre is made of is resized: the whole of 1 x 5,000 px would take 3 GB.
    """
    return functools.partial(_cropped, crop_pct, resizer)


def _cropped(crop_pct: float, resizer: Resizer, image: Picture, side: int, _: np.random.RandomState) -> Pixels:
    short = math.floor(side / crop_pct)
    height, width = image.shape[:2]
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    if math.prod(size) <= MOST_GROWTH * (width * height + side * side):
        return resizer(image[:, :], *size)[top : top + side, left : left + side]
    across, down = width / size[0], height / size[1]
    return resizer.part(image, (left * across, top * down, (left + side) * across, (top + side) * down), side)


def inception(image: Picture, side: int, random: np.random.RandomState, *, resizer: Resizer = PLAIN) -> Pixels:
    """Return a random crop of 5-100 % of the area at side x side, flipped half of the time."""
    left, top, right, bottom = crop_box(image.shape[1], image.shape[0], random)
    pixels = resizer(image[top:bottom, left:right], side, side)
    return mirrored(pixels) if random.random_sample() < 0.5 else pixels


def shift(image: Picture, side: int, random: np.random.RandomState, *, resizer: Resizer = PLAIN) -> Pixels:
    """Return the whole image moved by up to side / 16 px each way; the border repeats its edge."""
    reach = max(1, side // SHIFT_FRACTION)
    left, top = random.randint(0, 2 * reach + 1, 2)
    rows = np.clip(np.arange(side) + top - reach, 0, side - 1)
    columns = np.clip(np.arange(side) + left - reach, 0, side - 1)
    whole = squash(image, side, random, resizer=resizer)
    moved: Pixels = whole.take(rows, 0).take(columns, 1)  # far faster than both axes at once
    return moved


TRANSFORMS: dict[str, Callable[..., Pixels]] = {"inception": inception, "shift": shift, "none": squash}


def with_rand_augment(base: Transform, text: str) -> Transform:
    """`base`, then the RandAugment that `text` stands for."""
    return functools.partial(_rand_augmented, base, parse(text))


def _rand_augmented(
    base: Transform, augment: RandAugment, image: Picture, side: int, random: np.random.RandomState
) -> Pixels:
    pixels = np.ascontiguousarray(base(image, side, random))
    return np.asarray(augment(Image.fromarray(pixels), random))


def crop_box(width: int, height: int, random: np.random.RandomState) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a crop whose area and aspect are drawn from CROP_AREA and CROP_ASPECT."""
    for _ in range(CROP_ATTEMPTS):
        area = width * height * random.uniform(*CROP_AREA)
        aspect = math.exp(random.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = random.randint(0, width - crop_width + 1), random.randint(0, height - crop_height + 1)
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


EraseMode = Literal["const", "rand", "pixel"]


Image32 = np.ndarray[Any, np.dtype[np.float32]]


AREA = (0.02, 1 / 3)  # share of the image


ASPECT = (0.3, 1 / 0.3)


ATTEMPTS = 10  # to draw a rectangle that fits, then the image stays as it is


@dataclass(frozen=True, slots=True)
class Erasing:
    """One rectangle becomes 0 (const), one normal colour (rand) or normal noise (pixel), with a probability."""

    probability: float
    mode: EraseMode

    def __call__(self, image: Image32, random: np.random.RandomState) -> None:
        """Erase in place in the image (S, S, 3), normalised to [-1, 1]; the generator is all the randomness."""
        if random.random_sample() > self.probability:
            return
        height, width, channels = image.shape
        for _ in range(ATTEMPTS):
            area = random.uniform(*AREA) * height * width
            aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if rows < height and columns < width:
                top, left = random.randint(0, height - rows + 1), random.randint(0, width - columns + 1)
                shape = {"const": (), "rand": (1, 1, channels), "pixel": (rows, columns, channels)}[self.mode]
                filling = random.standard_normal(shape) if shape else 0.0
                image[top : top + rows, left : left + columns] = filling
                return
