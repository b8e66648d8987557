# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip
from PIL import Image  # noqa: E402

from vit.images.resize import FILTERS, Resizer  # noqa: E402
from vit.images.transforms import centre_crop, inception, squash  # noqa: E402

SIZES = [(1, 1), (1, 9), (7, 5), (16, 16), (33, 17), (300, 200), (61, 640), (384, 385)]
REFERENCE = Resizer("bilinear", "reference")


def noise(width: int, height: int) -> Any:
    return np.random.RandomState(width + height).randint(0, 256, (height, width, 3)).astype("uint8")


def by_formula(pixels: Any, width: int, height: int) -> Any:
    """tf.image.resize(bilinear, antialias=False), half-pixel centres, a pixel at a time: resize_bilinear_op.cc."""
    out = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            total = np.zeros(3)
            down, across = (y + 0.5) * pixels.shape[0] / height - 0.5, (x + 0.5) * pixels.shape[1] / width - 0.5
            for row in (int(np.floor(down)), int(np.floor(down)) + 1):
                for column in (int(np.floor(across)), int(np.floor(across)) + 1):
                    weight = (1 - abs(down - row)) * (1 - abs(across - column))
                    inside = min(max(row, 0), pixels.shape[0] - 1), min(max(column, 0), pixels.shape[1] - 1)
                    total += weight * pixels[inside]
            out[y, x] = total
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wanted", [(16, 16), (24, 7), (50, 50)])
def test_reference_is_the_formula_of_tf_image_resize_to_half_a_level(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    pixels = noise(*size)
    assert np.abs(REFERENCE(pixels, *wanted) - by_formula(pixels, *wanted)).max() <= 0.5 + 1e-3


def test_reference_is_torchs_bilinear_without_antialiasing_and_not_the_antialiased_one() -> None:
    pixels = noise(640, 427)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(planes, (384, 384), mode="bilinear", align_corners=False)
    found = REFERENCE(pixels, 384, 384)
    assert np.abs(found - theirs[0].permute(1, 2, 0).numpy()).max() <= 0.51
    assert np.abs(found.astype(int) - Resizer()(pixels, 384, 384)).mean() > 10


@pytest.mark.parametrize("name", list(FILTERS))
@pytest.mark.parametrize("size", SIZES)
def test_each_interpolation_is_pillows_to_one_level(name: Any, size: tuple[int, int]) -> None:
    pixels = noise(*size)
    theirs = np.asarray(Image.fromarray(pixels).resize((32, 24), FILTERS[name]))
    assert np.abs(Resizer(name)(pixels, 32, 24).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", list(FILTERS))
@pytest.mark.parametrize("size", [(16, 16), (18, 18), (40, 25), (25, 41), (300, 200), (640, 61), (30, 500)])
def test_a_centre_crop_is_the_centre_of_the_whole_resized_image(name: Any, size: tuple[int, int]) -> None:
    # No levels at the ends: Pillow takes its passes in the cheaper order, and rounds and clips between them.
    pixels, short = noise(*size) // 2 + np.uint8(64), 18
    whole = tuple(int(short * length / min(size)) for length in size)
    left, top = (round((length - 16) / 2) for length in whole)
    theirs = np.asarray(Image.fromarray(pixels).resize(whole, FILTERS[name]))[top : top + 16, left : left + 16]
    ours = centre_crop(16 / 18, Resizer(name))(pixels, 16, np.random.RandomState(0))
    distance = np.abs(ours.astype(int) - theirs)
    assert distance.max() <= 2
    assert (distance == 2).mean() < 0.01


@pytest.mark.parametrize("resizer", [Resizer(), Resizer("bicubic"), REFERENCE])
@pytest.mark.parametrize("shape", [(5_000, 1), (1, 5_000), (2_000_000, 1), (1, 2_000_000), (3, 300_000), (300_000, 3)])
def test_memory_is_bounded_by_output_and_input_whatever_the_aspect_ratio(
    resizer: Resizer, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, side = np.zeros((*shape, 3), np.uint8), 64
    sizes = [pixels.nbytes, side * side * 3]
    note = lambda found: sizes.append(found.nbytes) or found  # noqa: E731
    by = {name: getattr(np, name) for name in ("asarray", "ascontiguousarray", "rint")}
    for name, function in by.items():
        monkeypatch.setattr(np, name, lambda *a, _f=function, **k: note(_f(*a, **k)))
    real = torch.nn.functional.interpolate

    def interpolate(image: Any, size: tuple[int, int], **more: Any) -> Any:
        sizes.append(image.shape[2] * size[1] * 3)  # its first pass: the old rows, the new columns
        return real(image, size, **more)

    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)
    tracemalloc.start()
    for transform in (squash, inception):
        assert transform(pixels, side, np.random.RandomState(1), resizer=resizer).shape == (side, side, 3)
    assert centre_crop(0.875, resizer)(pixels, side, np.random.RandomState(1)).shape == (side, side, 3)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) <= 9 * (pixels.nbytes + side * side * 3)
    assert most <= 40 * side * side * 3 + 9 * pixels.nbytes
