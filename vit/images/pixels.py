# SPDX-License-Identifier: Apache-2.0
"""An image that Pillow opened -> RGB pixels of 8 bits, in every mode that has a known white; the others are refused.

| mode of the file | becomes |
|---|---|
| 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV, LAB | RGB as Pillow converts it |
| LA, PA, RGBA, RGBa | the same; the alpha channel is dropped, not blended |
| 16-bit grey (PNG, TIFF, PGM, JPEG 2000) | grey, scaled from the file's own bit depth |
| float, 32-bit integers, 16-bit grey of any other format | refused: no white is defined |
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[np.uint8]]

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
DEEP_FORMATS = ("PNG", "TIFF", "PPM", "JPEG2000")
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0


class UnknownWhite(Exception):
    """The mode does not say which value is white."""


def to_rgb(image: Image.Image) -> Array:
    """Return the first frame as (H, W, 3). Raises UnknownWhite, and whatever Pillow raises on damaged bytes."""
    check_mode(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on transparency and metadata, which are not used; they name no file
        if image.mode in DEEP_MODES or image.mode == "I":
            return np.repeat(_grey(image)[:, :, None], 3, axis=2)
        return np.asarray(image.convert("RGB"))


def check_mode(image: Image.Image) -> None:
    """Raise UnknownWhite for a mode that is refused; reads no pixels."""
    deep = image.mode in DEEP_MODES or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F", *DEEP_MODES) and not (deep and image.format in DEEP_FORMATS):
        raise UnknownWhite(f"its pixels have the mode {image.mode} of {image.format or 'memory'}")
    if image.mode == "La":  # of Pillow's own making: no file has it
        raise UnknownWhite(f"its pixels have the mode {image.mode}")


def _grey(image: Image.Image) -> Array:
    """16-bit grey (H, W) as 8 bits, rounded."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    white = 2 ** min(bits, 16) - 1
    values = np.asarray(image).astype(np.float32)
    grey: Array = np.rint(values * np.float32(255 / white)).clip(0, 255).astype(np.uint8)
    # Pillow inverts WhiteIsZero of 8 bits, but not of 16.
    return 255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey


class Picture(Protocol):
    """An image that slices turn into pixels: an array, or a file of which only the wanted part is decoded."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        ...

    def __getitem__(self, part: tuple[slice, slice], /) -> Array:
        """Pixels of these rows and columns. Raises DamagedImage."""
        ...
