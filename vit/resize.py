"""Bilinear resizing of uint8 pixels to within one level of Pillow's, at about twice its speed; and mirroring."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

Array = np.ndarray[Any, np.dtype[np.uint8]]


def resize(pixels: Array, width: int, height: int) -> Array:
    """Pixels (H, W, 3) at the new size, antialiased where they shrink, as Pillow's BILINEAR."""
    old_height, old_width = pixels.shape[:2]
    if (old_width, old_height) == (width, height):
        return pixels
    if old_width <= width and old_height <= height and has_opencv():
        return _enlarged(pixels, width, height)
    image = _tensor(pixels).permute(2, 0, 1)[None]
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def mirrored(pixels: Array) -> Array:
    """Pixels (H, W, 3), left and right exchanged; a view would cost its reader 0.4 ms at 384 px, this costs 0.03."""
    return _tensor(pixels).flip(1).numpy()


def _tensor(pixels: Array) -> torch.Tensor:
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


@functools.cache
def has_opencv() -> bool:
    """Whether this Python has OpenCV; its own threads are turned off, since the loader's processes are enough."""
    if importlib.util.find_spec("cv2") is None:
        return False
    try:
        import cv2
    except ImportError:  # opencv-python without the system's libGL
        return False
    cv2.setNumThreads(1)
    return True


def _enlarged(pixels: Array, width: int, height: int) -> Array:
    """OpenCV's bilinear, which is Pillow's as long as nothing shrinks, and faster."""
    import cv2

    enlarged: Array = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return enlarged
