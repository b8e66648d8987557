# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")
Image = pytest.importorskip("PIL.Image", reason="vit tests need Pillow: pip install pillow")

from vit.images.resize import mirrored  # noqa: E402
from vit.images.transforms import TRANSFORMS, crop_box, squash  # noqa: E402  # after the skip


def noise(width: int, height: int) -> Any:
    return np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype("uint8")


def seeded(number: int = 0) -> Any:
    return np.random.RandomState(number)


def test_squash_is_a_plain_resize_of_the_whole_image() -> None:
    image = noise(40, 20)
    theirs = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(squash(image, 16, seeded()).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_each_transform_gives_side_by_side_uint8_and_depends_on_the_generator_alone(name: str) -> None:
    first, second = (TRANSFORMS[name](noise(30, 50), 32, seeded(7)) for _ in range(2))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_shift_moves_by_up_to_two_of_32_pixels_both_ways() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[16, 16] = 255
    moved = [TRANSFORMS["shift"](pixels, 32, seeded(i)) for i in range(300)]
    places = {tuple(int(axis[0]) for axis in np.nonzero(image[:, :, 0])) for image in moved}
    assert places == {(16 + down, 16 + right) for down in range(-2, 3) for right in range(-2, 3)}


def test_crops_stay_inside_and_have_5_to_100_percent_of_the_area() -> None:
    boxes = [crop_box(200, 100, seeded(i)) for i in range(500)]
    assert all(0 <= left < right <= 200 and 0 <= top < bottom <= 100 for left, top, right, bottom in boxes)
    shares = [(right - left) * (bottom - top) / 20_000 for left, top, right, bottom in boxes]
    assert 0.045 < min(shares) < 0.1
    assert 0.6 < max(shares) <= 1


def test_half_of_the_inception_crops_are_flipped() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    images = [TRANSFORMS["inception"](ramp, 16, seeded(i)).astype(int) for i in range(400)]
    flipped = sum(bool(image[0, 0, 0] > image[0, -1, 0]) for image in images)
    assert 150 < flipped < 250


def test_a_mirrored_image_is_the_image_from_right_to_left_even_read_only() -> None:
    pixels = noise(5, 4)
    pixels.setflags(write=False)
    assert np.array_equal(mirrored(pixels[1:, 2:]), pixels[1:, :1:-1])
