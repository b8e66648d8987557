# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from tests.support.photographs import find_turbojpeg, write_photographs  # noqa: E402
from tests.support.running import Result  # noqa: E402
from vit.data.batches import Batches  # noqa: E402
from vit.data.datasets import FolderSource, JpegFile, decode, open_image  # noqa: E402
from vit.data.sources import DamagedImage  # noqa: E402
from vit.images.jpeg import fast_crop  # noqa: E402
from vit.images.transforms import crop_box, inception, squash  # noqa: E402
from vit.images.turbojpeg import SIGNATURES, cropper  # noqa: E402

ALWAYS_WHOLE = {"progressive", "cmyk", "png"}
CASES, SEED = (int(os.environ.get(name, default)) for name, default in (("CROPS_CASES", "150"), ("CROPS_SEED", "0")))
ALONE = "crops of a JPEG are decoded alone, by libjpeg-turbo 3"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    return list(write_photographs(tmp_path_factory.mktemp("photographs")))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Crop with another library, or with none."""

    def use(path: str) -> None:
        monkeypatch.setenv("VIT_TURBOJPEG", path)
        cropper.cache_clear()

    yield use
    cropper.cache_clear()


@pytest.fixture
def cropping(library: Callable[[str], None]) -> None:
    """Crop with libjpeg-turbo 3."""
    library(find_turbojpeg())
    assert cropper().turbo is not None, cropper().remark


def outcome(decoded: Callable[[], Any]) -> Any:
    """Pixels, or what is wrong with the file."""
    try:
        return decoded()
    except DamagedImage as error:
        return str(error)


def boxes(width: int, height: int, random: np.random.RandomState) -> Iterator[tuple[int, int, int, int]]:
    """What training draws, and any other box."""
    for _ in range(3):
        yield crop_box(width, height, random)
        left, top = random.randint(0, width), random.randint(0, height)
        yield left, top, random.randint(left, width) + 1, random.randint(top, height) + 1


@pytest.mark.usefixtures("cropping")
def test_parts_of_240_photographs_decoded_alone_are_those_of_the_whole(photographs: list[tuple[str, Path]]) -> None:
    random, alone = np.random.RandomState(0), set()
    for kind, path in photographs:
        picture, whole = open_image(path), decode(path)
        for left, top, right, bottom in boxes(*whole.shape[1::-1], random):
            part = picture[top:bottom, left:right]
            assert np.array_equal(part, whole[top:bottom, left:right]), (kind, path, left, top, right, bottom)
            if isinstance(picture, JpegFile) and fast_crop(picture.data, (left, top, right, bottom)) is not None:
                alone.add(kind)
        assert np.array_equal(squash(picture, 32, random), squash(whole, 32, random))
    assert {kind for kind, _ in photographs} - alone == ALWAYS_WHOLE


@pytest.mark.usefixtures("cropping")
def test_training_sees_the_same_crop_of_a_file_as_of_its_pixels(photographs: list[tuple[str, Path]]) -> None:
    for number, (kind, path) in enumerate(photographs[::5]):
        crops = [inception(each, 384, np.random.RandomState(number)) for each in (open_image(path), decode(path))]
        assert np.array_equal(*crops), (kind, path)


@pytest.mark.usefixtures("cropping")
def test_a_damaged_photograph_gives_the_pixels_or_the_error_of_the_whole(
    photographs: list[tuple[str, Path]], tmp_path: Path
) -> None:
    """CROPS_CASES seeds from CROPS_SEED on; scripts/soak crops makes it 3000.

    A library that was built without SIMD gives other pixels than the decoders of whole images for coefficients that no
    encoder writes; good photographs are the same.
    """
    outcomes, damaged = set(), tmp_path / "damaged.JPEG"
    small = [path for kind, path in photographs if kind not in ALWAYS_WHOLE and path.stat().st_size < 100_000]
    for seed in range(SEED, SEED + CASES):
        random = np.random.RandomState(seed)
        data = bytearray(small[random.randint(len(small))].read_bytes())
        for place in random.randint(2, len(data), 2):
            data[place] = random.choice((0xFF, random.randint(256)))
        damaged.write_bytes(data)
        picture = outcome(lambda: open_image(damaged))
        whole = outcome(lambda: decode(damaged))
        if not isinstance(picture, JpegFile):
            continue
        height, width, _ = picture.shape
        for left, top, right, bottom in boxes(width, height, random):
            part = outcome(lambda: picture[top:bottom, left:right])  # noqa: B023  # called at once
            wanted = whole if isinstance(whole, str) else whole[top:bottom, left:right]
            assert np.array_equal(part, wanted), (seed, left, top, right, bottom)
            alone = fast_crop(picture.data, (left, top, right, bottom)) is not None
            outcomes.add("damaged" if isinstance(part, str) else "alone" if alone else "by the whole")
    assert outcomes == {"damaged", "alone", "by the whole"}


@pytest.mark.usefixtures("cropping")
def test_damage_that_shows_when_a_part_is_decoded_is_told_and_replaced(
    photographs: list[tuple[str, Path]], tmp_path: Path
) -> None:
    good = next(path for kind, path in photographs if kind == "4:2:0" and path.stat().st_size > 20_000).read_bytes()
    tables = good.index(b"\xff\xc4")
    (tmp_path / "class").mkdir()
    (tmp_path / "class/0.JPEG").write_bytes(good[: tables + 5] + b"\xff" * 16 + good[tables + 21 :])
    (tmp_path / "class/1.JPEG").write_bytes(good)
    source = FolderSource(tmp_path)
    source.cache_left = 0  # as in a large set
    assert isinstance(source.image(0), JpegFile)
    batches = Batches(source=source, transform=inception, side=32, seed=0, replaces=True)
    batch, other = batches.batch([(0, 0)]), batches.batch([(0, 1)])
    assert len(batch.damaged) == 1
    assert "0.JPEG: cannot be decoded" in batch.damaged[0]
    assert torch.equal(batch.images, other.images)


@pytest.mark.usefixtures("cropping")
def test_threads_crop_at_once_and_no_memory_stays(photographs: list[tuple[str, Path]]) -> None:
    path = next(path for kind, path in photographs if kind == "4:2:0" and decode(path).shape == (427, 640, 3))
    data, wanted = path.read_bytes(), decode(path)[50:300, 100:500]

    def right(_: int) -> bool:
        found = fast_crop(data, (100, 50, 500, 300))
        return found is not None and np.array_equal(found, wanted) and fast_crop(data[:-9000], (0, 9, 90, 427)) is None

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(right, range(100)))
        before = resident_pages()
        assert all(threads.map(right, range(1500)))
    assert resident_pages() - before < 1536  # 6 MB; a handle lost each time would be 14, a picture 900


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_the_library_in_use_is_told_before_step_1(here: Callable[..., Result], library: Callable[[str], None]) -> None:
    path = find_turbojpeg()
    library(path)
    assert f"images: {ALONE} ({path})" in here("--num_steps", "3", "--eval_every", "3").err


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no file", "it cannot be loaded"),
        ("no library", "it cannot be loaded"),
        ("version 2", "it is not libjpeg-turbo 3"),
        ("wrong pixels", "its pixels are not Pillow's"),
    ],
)
def test_a_library_of_no_use_is_passed_over_in_one_line(
    kind: str, reason: str, library: Callable[[str], None], here: Callable[..., Result], tmp_path: Path
) -> None:
    library(str(write_library(tmp_path / "library.so", kind)))
    told = here("--num_steps", "3", "--eval_every", "3").err
    lines = [line for line in told.splitlines() if "passed over" in line]
    assert len(lines) == 1
    assert reason in lines[0]


def write_library(path: Path, kind: str) -> Path:
    """A stand-in for what real machines have: 2.x lacks every tj3 function, and no wrong 3.x is known."""
    if kind == "no library":
        path.write_text("libturbojpeg\n")
    elif kind != "no file":
        names = ["tjInitDecompress"] if kind == "version 2" else [name for name in SIGNATURES if name != "tj3Init"]
        source = "".join(f"int {name}(void) {{ return 0; }}\n" for name in names)
        source += "" if kind == "version 2" else "void *tj3Init(void) { return (void *)1; }\n"
        words = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        try:
            subprocess.run(words, input=source, text=True, check=True)
        except FileNotFoundError:
            pytest.skip("a stand-in library needs a C compiler: install gcc")
    return path


def test_without_a_library_nothing_is_said_and_files_are_decoded_whole(
    library: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, photographs: list[tuple[str, Path]]
) -> None:
    library("")
    assert (cropper().turbo, cropper().remark) == (None, "crops are not decoded alone, since VIT_TURBOJPEG is empty")
    assert not isinstance(open_image(photographs[0][1]), JpegFile)
    monkeypatch.delenv("VIT_TURBOJPEG")
    monkeypatch.setattr("vit.images.turbojpeg.LIBRARY", "libturbojpeg-of-nobody.so.0")
    cropper.cache_clear()
    assert (cropper().turbo, cropper().remark) == (None, "")
