# SPDX-License-Identifier: Apache-2.0
"""Small pictures of images and of what the model looks at in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from vit.data.batches import Batches

Array = np.ndarray[Any, Any]
Size = tuple[int, int]
"""(width, height)."""

SMOOTH = Image.Resampling.BILINEAR
DARKEST = 0.08  # of its brightness keeps a pixel that is not looked at
MOST_BYTES = 300_000  # of all pictures of an evaluation
QUALITIES = ((160, 80), (160, 50), (112, 50), (80, 40))  # (pixels, quality of JPEG): the first whose files are small


def seen(batches: Batches, index: int, *, crop: bool) -> Image.Image:
    """Return the whole image, or the centre where that is all that the model sees."""
    pixels = batches.batch([(0, index)]).images[0].numpy() if crop else batches.source.image(index)[:, :]
    return Image.fromarray(np.ascontiguousarray(pixels))


def fitted(size: Size, side: int) -> Size:
    """Return the size of the same aspect that just fits within side x side."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def spread(shares: Array, patch: int, side: int, size: Size) -> Image.Image:
    """Spread shares (rows, columns) of patches over a picture of what the model sees, side x side pixels.

    Pixels beside whole patches were not seen and get 0. A hybrid's last tokens reach beyond the image.
    """
    rows, columns = shares.shape
    whole = Image.fromarray(shares.astype(np.float32)).resize((columns * patch, rows * patch), SMOOTH)
    return whole.crop((0, 0, side, side)).resize(size, SMOOTH)


def masked(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the image darkened where the mask is small: what is least is nearly black, what is most is unchanged."""
    shares = np.asarray(mask, np.float32)
    least, most = shares.min(), shares.max()
    stretched = (shares - least) / (most - least) if most > least else np.ones_like(shares)
    factors = (DARKEST + (1 - DARKEST) * stretched)[:, :, None]
    return Image.fromarray((np.asarray(image, np.float32) * factors).round().astype(np.uint8))


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """Return the image within side x side; a smaller one as it is."""
    return image.resize(fitted(image.size, side), SMOOTH) if max(image.size) > side else image


def as_jpegs(pictures: Sequence[Image.Image], most_bytes: int = MOST_BYTES) -> list[bytes]:
    """Return the pictures as JPEG files of together at most `most_bytes`; none is enlarged."""
    files: list[bytes] = []
    for side, quality in QUALITIES:
        files = [_jpeg(picture, side, quality) for picture in pictures]
        if sum(map(len, files)) <= most_bytes:
            break
    return files


def _jpeg(picture: Image.Image, side: int, quality: int) -> bytes:
    buffer = io.BytesIO()
    shrunk(picture, side).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()
