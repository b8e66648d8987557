# SPDX-License-Identifier: Apache-2.0
"""timm is the second reader: the same operation at the same strength gives the same bytes."""

from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")
from PIL import Image  # noqa: E402  # after the skip

from vit.images.rand_augment import INCREASING, PLAIN, RandAugment, parse  # noqa: E402


class Scripted(np.random.RandomState):  # type: ignore[misc, name-defined]  # numpy came by importorskip
    """A generator that never turns a value round and always takes the first filter, bilinear."""

    def random_sample(self, size: Any = None) -> Any:
        return 0.0

    def randint(self, *args: Any, **kwargs: Any) -> Any:
        return 0


def keep_bits(image: Image.Image, bits: int) -> Image.Image:
    """ImageOps.posterize as it was before Pillow 13, which refuses timm's 0 bits."""
    return Image.fromarray(np.asarray(image) & np.uint8(256 - 2 ** (8 - bits) if bits else 0))


@pytest.mark.parametrize("magnitude", [0, 3, 9, 10])
@pytest.mark.parametrize("name", sorted(PLAIN | INCREASING))
def test_each_operation_gives_the_bytes_that_timms_gives(
    name: str, magnitude: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm.data.auto_augment", reason="vit tests need timm: pip install timm")
    monkeypatch.setattr(timm.random, "random", lambda: 0.0)  # timm then does not turn the value round either
    hparams = {"img_mean": (128, 128, 128), "interpolation": Image.Resampling.BILINEAR}
    image = Image.fromarray(np.random.RandomState(1).randint(0, 256, (40, 30, 3)).astype("uint8"))
    monkeypatch.setattr(timm.ImageOps, "posterize", keep_bits)
    expected = timm.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)(image)
    found = (PLAIN | INCREASING)[name](image, magnitude / 10, Scripted(0))
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_the_operations_are_timms() -> None:
    timm = pytest.importorskip("timm.data.auto_augment", reason="vit tests need timm: pip install timm")
    assert set(PLAIN) == set(timm._RAND_TRANSFORMS)
    assert set(INCREASING) == set(timm._RAND_INCREASING_TRANSFORMS)


def test_the_text_is_read_as_timm_reads_it() -> None:
    assert parse("rand-m9-mstd0.5-inc1") == RandAugment(magnitude=9, deviation=0.5, increasing=True)
    assert parse("rand") == RandAugment()
    assert parse("rand-n3-p0.7-mmax20") == RandAugment(num_layers=3, probability=0.7, most=20)


def test_half_of_the_operations_are_applied_and_the_generator_decides() -> None:
    image = Image.fromarray(np.random.RandomState(1).randint(0, 256, (16, 16, 3)).astype("uint8"))
    augment, before = parse("rand-m9-n1-inc1"), np.asarray(image)
    results = [np.asarray(augment(image, np.random.RandomState(seed))) for seed in range(400)]
    again = np.asarray(augment(image, np.random.RandomState(7)))
    assert 150 < sum(not np.array_equal(result, before) for result in results) < 250
    assert np.array_equal(results[7], again)
