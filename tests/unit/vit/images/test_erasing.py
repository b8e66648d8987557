# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from vit.images.transforms import Erasing  # noqa: E402  # after the skip


def erased(seed: int, mode: str, probability: float = 1.0) -> object:
    image = np.full((40, 40, 3), 9.0, np.float32)
    Erasing(probability, mode)(image, np.random.RandomState(seed))  # type: ignore[arg-type]  # one of its three
    return image


def box(image: object) -> tuple[int, int, int]:
    """Rows, columns and number of the pixels that changed."""
    rows, columns = np.nonzero((image != 9).any(axis=2))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1, len(rows)


def test_one_rectangle_of_2_to_33_percent_is_erased() -> None:
    boxes = [box(erased(seed, "const")) for seed in range(300)]
    assert all(rows * columns == count for rows, columns, count in boxes)
    assert 0.015 < min(count for *_, count in boxes) / 1600 < 0.03
    assert 0.3 < max(count for *_, count in boxes) / 1600 < 0.36


def test_it_becomes_grey_one_colour_or_noise() -> None:
    numbers = {}
    for mode in ("const", "rand", "pixel"):
        image = erased(1, mode)
        inside = image[(image != 9).any(axis=2)]
        numbers[mode] = len(np.unique(inside))
    count = box(erased(1, "pixel"))[2]
    assert (numbers["const"], numbers["rand"], numbers["pixel"]) == (1, 3, 3 * count)


def test_a_share_of_the_images_is_erased() -> None:
    changed = [bool((erased(seed, "const", 0.25) != 9).any()) for seed in range(400)]
    assert 70 < sum(changed) < 130
