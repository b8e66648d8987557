# SPDX-License-Identifier: Apache-2.0
"""Small pictures: their size on disk, and what an attention map of a fitted image looks like."""

from __future__ import annotations

import io
from typing import Any

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # after the skip
from PIL import Image

from vit.findings.pictures import MOST_BYTES, as_jpegs, fitted, shrunk, spread


def noise(width: int, height: int) -> Image.Image:
    pixels: Any = np.random.RandomState(0).randint(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype("uint8"))


def test_thirty_pictures_of_noise_fit_into_the_limit() -> None:
    files = as_jpegs([noise(160, 160)] * 30)
    assert len(files) == 30
    assert sum(map(len, files)) <= MOST_BYTES
    assert {Image.open(io.BytesIO(file)).format for file in files} == {"JPEG"}


def test_a_wide_image_keeps_its_aspect_and_a_small_one_its_size() -> None:
    assert shrunk(noise(1000, 250), 160).size == (160, 40)
    assert shrunk(noise(28, 28), 160).size == (28, 28)
    assert fitted((3000, 1), 160) == (160, 1)
    (file,) = as_jpegs([noise(28, 20)])
    assert Image.open(io.BytesIO(file)).size == (28, 20)


def test_a_map_lies_over_the_pixels_of_its_patches() -> None:
    shares = np.zeros((2, 2))
    shares[0, 1] = 1.0
    mask = np.asarray(spread(shares, 8, 16, (32, 32)))
    assert mask[4, 27] == pytest.approx(1.0)
    assert mask[27, 4] == mask[4, 4] == mask[27, 27] == pytest.approx(0.0)
