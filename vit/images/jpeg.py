# SPDX-License-Identifier: Apache-2.0
"""JPEG data -> RGB pixels by the fastest decoder that is there; all of them give Pillow's pixels to the bit."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vit.images.turbojpeg import Box, cropper
from vit.packages import optional_package

Array = np.ndarray[Any, np.dtype[np.uint8]]
Decoder = Callable[[bytes], Array]

START_OF_FRAME = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; Huffman-coded (ITU T.81, table B.1)
START_OF_SCAN = 0xDA
NO_LENGTH = (0x01, *range(0xD0, 0xD9))  # markers without a segment
COMPONENTS = (1, 3)  # CMYK is Pillow's, whose conversion is the reference
END_OF_IMAGE = b"\xff\xd9"
MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # neither a stuffed byte, nor a restart, nor padding
TRAILER_BYTES = 64  # padding that some cameras write after the end
MOST_PIXELS = 2**26  # a larger image is Pillow's, which knows decompression bombs


def fast_decode(data: bytes) -> Array | None:
    """The pixels (H, W, 3); None where Pillow must judge: no JPEG, an odd one, a cut one, or no fast decoder here."""
    decode = decoder()[1]
    if decode is None or not is_plain(data):
        return None
    try:
        return decode(data)
    except (ValueError, RuntimeError):  # it may still be good enough for Pillow
        return None


@functools.cache
def decoder() -> tuple[str, Decoder | None]:
    """(name, function) of the decoder that this Python has: simplejpeg, else torchvision, else Pillow and None."""
    simplejpeg = optional_package("simplejpeg", needs=("decode_jpeg",))
    if simplejpeg is not None:
        return "simplejpeg", functools.partial(simplejpeg.decode_jpeg, colorspace="RGB")
    found = _torchvision()
    return ("Pillow", None) if found is None else ("torchvision", found)


def _torchvision() -> Decoder | None:
    """torchvision's decoder, where it is there and was built with one."""
    io = optional_package("torchvision.io", needs=("ImageReadMode", "decode_jpeg", "encode_jpeg"))
    if io is None:
        return None
    import torch

    try:
        io.decode_jpeg(io.encode_jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8)))
    except (OSError, RuntimeError):  # built without libjpeg or for another torch
        return None

    def decode(data: bytes) -> Array:
        packed = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        pixels: Array = io.decode_jpeg(packed, io.ImageReadMode.RGB).permute(1, 2, 0).numpy()
        return pixels

    return decode


def is_plain(data: bytes) -> bool:
    """Return whether it is a whole grey or colour JPEG of 8 bits and of no frightening size."""
    frame = find_frame(data)
    if frame is None or END_OF_IMAGE not in data[-TRAILER_BYTES:]:
        return False
    bits, height, width, components = frame
    return bits == 8 and components in COMPONENTS and 0 < width * height <= MOST_PIXELS


def can_crop(data: bytes) -> bool:
    """Return whether a part of it can be decoded alone here and come out as it would from the whole.

    What lies below the part is not looked at. Damage there changes no row above it, but a marker in the scan could make
    Pillow refuse the file: such a file is decoded whole, and so is one of several scans (progressive ones gain little).
    """
    if cropper().turbo is None or not is_plain(data):
        return False
    place = next((place for marker, place in _segments(data) if marker == START_OF_SCAN), len(data))
    found = MARKER_IN_SCAN.search(data, place + 2)
    return found is not None and found.group() == END_OF_IMAGE


def fast_crop(data: bytes, box: Box) -> Array | None:
    """The pixels (H, W, 3) within (left, top, right, bottom) of data that can_crop; None where Pillow must judge."""
    turbo = cropper().turbo
    return None if turbo is None else turbo.crop(data, box)


def find_frame(data: bytes) -> tuple[int, int, int, int] | None:
    """(bits, height, width, components) of the first frame; None unless the data is a JPEG in a common coding."""
    for marker, place in _segments(data):
        if marker in START_OF_FRAME:
            height, width = (int.from_bytes(data[place + at : place + at + 2], "big") for at in (5, 7))
            return data[place + 4], height, width, data[place + 9]
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, its place) of each segment up to the first scan's, of data that begins as a JPEG does."""
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif marker in NO_LENGTH:
            place += 2
        else:
            yield marker, place
            if marker == START_OF_SCAN:
                return
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
