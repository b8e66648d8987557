# SPDX-License-Identifier: Apache-2.0
"""Photographs of every kind, made from the two that scikit-learn ships; and libjpeg-turbo 3, to crop them with."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vit.images.turbojpeg import LIBRARY

NUM_SIZES = 20
SIZES = ((1, 1), (7, 5), (16, 16), (17, 33), (384, 384), (385, 300), (300, 385), (640, 427), (2400, 1601))
KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0, "quality": 95},
    "progressive": {"progressive": True, "optimize": True},
    "poor": {"quality": 10},
    "grey": {},
    "cmyk": {},
    "restarts": {"restart_marker_blocks": 3},
    "turned": {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    "png": {"format": "PNG"},
}
MODES = {"grey": "L", "cmyk": "CMYK"}
RARE = {"4:4:0": "440", "4:1:1": "411"}
"""Subsamplings that Pillow does not write, by simplejpeg's names."""


def write_photographs(folder: Path) -> Iterator[tuple[str, Path]]:
    """240 files: each kind in 20 sizes; all are named .JPEG."""
    np, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    simplejpeg = pytest.importorskip("simplejpeg", reason="vit tests need simplejpeg: pip install simplejpeg")
    sklearn = pytest.importorskip("sklearn.datasets", reason="vit tests need scikit-learn: pip install scikit-learn")
    photos = [image.fromarray(pixels) for pixels in sklearn.load_sample_images().images]
    random = np.random.RandomState(0)
    sizes = [*SIZES, *(tuple(random.randint(30, 900, 2).tolist()) for _ in range(NUM_SIZES - len(SIZES)))]
    for number, size in enumerate(sizes):
        photo = photos[number % 2].resize(size, image.Resampling.LANCZOS)
        for kind, options in KINDS.items():
            path = folder / f"{kind.replace(':', '')}_{number:02d}.JPEG"
            photo.convert(MODES.get(kind, "RGB")).save(path, **{"format": "JPEG", **options})
            yield kind, path
        for kind, subsampling in RARE.items():
            path = folder / f"{kind.replace(':', '')}_{number:02d}.JPEG"
            path.write_bytes(simplejpeg.encode_jpeg(np.array(photo), colorsubsampling=subsampling))
            yield kind, path


def find_turbojpeg() -> str:
    """The library that VIT_TURBOJPEG names or the system has; skips where there is none of libjpeg-turbo 3."""
    path = os.environ.get("VIT_TURBOJPEG", LIBRARY)
    try:
        assert ctypes.CDLL(path or "nothing").tj3Init
    except (AttributeError, OSError):
        pytest.skip("crops need libjpeg-turbo 3: install its libturbojpeg.so.0, or name the file with VIT_TURBOJPEG")
    return path
