# SPDX-License-Identifier: Apache-2.0
"""Resizing of uint8 pixels: antialiased to within one level of Pillow's, or as tf.image.resize does; and mirroring."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vit.packages import optional_package

Array = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, not rounded."""
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
ResizeMethod = Literal["antialias", "reference"]

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
REACH = 3  # source pixels (times the scale, where it shrinks) that the widest filter looks to each side
MOST_GROWTH = 8  # a first pass that makes more than this many times input and output is taken the other way round


@dataclass(frozen=True, slots=True)
class Resizer:
    """One way to resize. Memory stays within a multiple of input and output, whatever the aspect ratio."""

    interpolation: Interpolation = "bilinear"
    method: ResizeMethod = "antialias"

    def __call__(self, pixels: Array, width: int, height: int) -> Array:
        """Pixels (H, W, 3) at the new size."""
        old_height, old_width = pixels.shape[:2]
        if (old_width, old_height) == (width, height):
            return pixels
        if self.method == "reference":
            return sampled(pixels, (0, 0, old_width, old_height), width, height)
        if self.interpolation == "bilinear":
            return resize(pixels, width, height)
        return _in_order(functools.partial(_by_pillow, self.interpolation), pixels, width, height)

    def part(self, image: Any, box: Box, side: int) -> Array:
        """What the box of the image (a Picture) becomes at side x side; pixels beside the box count as in the whole."""
        height, width = image.shape[:2]
        margins = [math.ceil(REACH * max(1, (box[end] - box[end - 2]) / side)) + 1 for end in (2, 3)]
        left, top = (max(0, math.floor(box[at]) - margins[at]) for at in (0, 1))
        right, bottom = (min(most, math.ceil(box[2 + at]) + margins[at]) for at, most in ((0, width), (1, height)))
        cut = image[top:bottom, left:right]
        inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
        if self.method == "reference":
            return sampled(cut, inner, side, side)
        limits = (0, 0, right - left, bottom - top)
        kept = [max(0, inner[at]) if at < 2 else min(limits[at], inner[at]) for at in range(4)]
        return _by_pillow(self.interpolation, cut, side, side, (kept[0], kept[1], kept[2], kept[3]))


def resize(pixels: Array, width: int, height: int) -> Array:
    """Pixels (H, W, 3) at the new size, antialiased where they shrink, as Pillow's BILINEAR; about twice as fast."""
    old_height, old_width = pixels.shape[:2]
    if (old_width, old_height) == (width, height):
        return pixels
    if old_width <= width and old_height <= height and has_opencv():
        return _enlarged(pixels, width, height)
    return _in_order(_by_torch, pixels, width, height)


def _in_order(by: Callable[[Array, int, int], Array], pixels: Array, width: int, height: int) -> Array:
    """Both passes at once, columns first as libraries do; or rows first where that needs far less memory."""
    old_height, old_width = pixels.shape[:2]
    if width * old_height <= MOST_GROWTH * (old_width * old_height + width * height):
        return by(pixels, width, height)
    return by(by(pixels, old_width, height), width, height)


def _by_torch(pixels: Array, width: int, height: int) -> Array:
    image = _tensor(pixels).permute(2, 0, 1)[None]
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _by_pillow(interpolation: str, pixels: Array, width: int, height: int, box: Box | None = None) -> Array:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), FILTERS[interpolation], box=box))


def sampled(pixels: Array, box: Box, width: int, height: int) -> Array:
    """Bilinear without antialiasing, pixel centres at halves, rounded: tf.image.resize, of what lies in the box."""
    (top, bottom, down), (left, right, across) = (
        _neighbours(box[1], box[3], height, pixels.shape[0]),
        _neighbours(box[0], box[2], width, pixels.shape[1]),
    )
    across, down = across[None, :, None], down[:, None, None]
    rows = []
    for row in (top, bottom):
        first, second = (pixels[row[:, None], column[None, :]].astype(np.float32) for column in (left, right))
        rows.append(first + (second - first) * across)
    found: Array = np.rint(rows[0] + (rows[1] - rows[0]) * down).astype(np.uint8)
    return found


def _neighbours(start: float, stop: float, count: int, length: int) -> tuple[Any, Any, Any]:
    """Return the pixels before and after each of `count` places from start to stop, and the share of the one after."""
    places = start + (np.arange(count) + 0.5) * ((stop - start) / count) - 0.5
    before = np.floor(places)
    share = (places - before).astype(np.float32)
    first, second = (np.clip(index, 0, length - 1).astype(np.intp) for index in (before, before + 1))
    return first, second, share


def mirrored(pixels: Array) -> Array:
    """Pixels (H, W, 3), left and right exchanged; a view would cost its reader 0.4 ms at 384 px, this costs 0.03."""
    return _tensor(pixels).flip(1).numpy()


def _tensor(pixels: Array) -> torch.Tensor:
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


@functools.cache
def has_opencv() -> bool:
    """Whether this Python has OpenCV; its own threads are turned off, since the loader's processes are enough."""
    cv2 = optional_package("cv2", needs=("resize", "setNumThreads", "INTER_LINEAR"))
    if cv2 is None:  # absent, or opencv-python without the system's libGL
        return False
    cv2.setNumThreads(1)
    return True


def _enlarged(pixels: Array, width: int, height: int) -> Array:
    """OpenCV's bilinear, which is Pillow's as long as nothing shrinks, and faster."""
    import cv2

    enlarged: Array = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return enlarged
