# SPDX-License-Identifier: Apache-2.0
"""A part of a JPEG decoded alone: the very pixels of the whole image at a fraction of the work, by libjpeg-turbo 3.

The library is `libturbojpeg.so.0` as the system's loader finds it (2.x has that name too, but cannot crop). The
environment variable VIT_TURBOJPEG names another file; empty, it turns crop decoding off.
"""

from __future__ import annotations

import ctypes
import functools
import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

LIBRARY = "libturbojpeg.so.0"  # the soname of 2.x and 3.x alike
MARGIN = 2  # pixels around the box: smooth upsampling of the chroma looks one sample, two pixels, to each side

# From libjpeg-turbo 3.0's turbojpeg.h.
DECOMPRESS, RGB = 1, 0  # TJINIT_DECOMPRESS, TJPF_RGB
STOP_ON_WARNING, SUBSAMPLING, WIDTH, HEIGHT = 0, 4, 5, 6  # TJPARAM_*
IMCU_WIDTHS = (8, 16, 16, 8, 8, 32, 8)  # tjMCUWidth: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1


class Region(ctypes.Structure):
    """tjregion; x must be a multiple of the iMCU's width."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "tj3Init": (ctypes.c_void_p, [ctypes.c_int]),
    "tj3Destroy": (None, [ctypes.c_void_p]),
    "tj3Set": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
    "tj3Get": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "tj3DecompressHeader": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "tj3SetCroppingRegion": (ctypes.c_int, [ctypes.c_void_p, Region]),
    "tj3Decompress8": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int, ctypes.c_int],
    ),
}


class TurboJpeg:
    """The functions that crop, of one loaded library. A handle lives for one image, so threads and forks share none."""

    def __init__(self, path: str) -> None:
        """Raises OSError where no such library can be loaded, AttributeError where it is older than 3.0."""
        library = ctypes.CDLL(path)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.library = library

    def crop(self, data: bytes, box: Box) -> Array | None:
        """Return the pixels (H, W, 3) within the box; None where the library refuses the file or warns of damage."""
        handle = self.library.tj3Init(DECOMPRESS)
        if not handle:
            return None
        try:
            return self._decode(handle, data, box)
        finally:
            self.library.tj3Destroy(handle)

    def _decode(self, handle: int, data: bytes, box: Box) -> Array | None:
        library = self.library
        if library.tj3Set(handle, STOP_ON_WARNING, 1) or library.tj3DecompressHeader(handle, data, len(data)):
            return None
        subsampling, width, height = (library.tj3Get(handle, name) for name in (SUBSAMPLING, WIDTH, HEIGHT))
        left, top, right, bottom = box
        if not 0 <= subsampling < len(IMCU_WIDTHS) or right > width or bottom > height:
            return None
        x, y = max(0, left - MARGIN), max(0, top - MARGIN)
        x -= x % IMCU_WIDTHS[subsampling]
        region = Region(x, y, min(width, right + MARGIN) - x, min(height, bottom + MARGIN) - y)
        pixels = np.empty((region.h, region.w, 3), np.uint8)
        if library.tj3SetCroppingRegion(handle, region):
            return None
        if library.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0, RGB):
            return None
        return pixels[top - y : bottom - y, left - x : right - x]


@dataclass(frozen=True)
class Cropper:
    """What crops here, if anything does, and a sentence on it."""

    turbo: TurboJpeg | None
    remark: str
    """Empty if the library is absent and was not requested."""


@functools.cache
def cropper() -> Cropper:
    """The library that this process crops with; one that is too old, broken or gives other pixels is passed over."""
    path = os.environ.get("VIT_TURBOJPEG", LIBRARY)
    if not path:
        return Cropper(None, "crops are not decoded alone, since VIT_TURBOJPEG is empty")
    passed_over = f"crops are not decoded alone: {path} is passed over,"
    try:
        turbo = TurboJpeg(path)
    except OSError as error:
        absent = "VIT_TURBOJPEG" not in os.environ and "No such file" in str(error)
        return Cropper(None, "" if absent else f"{passed_over} it cannot be loaded ({error})")
    except AttributeError:
        return Cropper(None, f"{passed_over} it is not libjpeg-turbo 3")
    if not _agrees_with_pillow(turbo):
        return Cropper(None, f"{passed_over} its pixels are not Pillow's")
    return Cropper(turbo, f"crops of a JPEG are decoded alone, by libjpeg-turbo 3 ({path})")


def _agrees_with_pillow(turbo: TurboJpeg) -> bool:
    """Return whether a crop out of the middle of a small image is right."""
    noise = Image.frombytes("RGB", (48, 40), np.random.RandomState(0).bytes(48 * 40 * 3))
    file = io.BytesIO()
    noise.save(file, "JPEG", subsampling="4:2:0")
    whole = np.asarray(Image.open(file).convert("RGB"))
    found = turbo.crop(file.getvalue(), (19, 7, 41, 29))
    return found is not None and np.array_equal(found, whole[7:29, 19:41])
