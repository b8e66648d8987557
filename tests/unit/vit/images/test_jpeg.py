# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from tests.support.photographs import write_photographs  # noqa: E402
from tests.support.running import ROOT, clean_environment  # noqa: E402
from vit.data.datasets import decode  # noqa: E402
from vit.data.sources import DamagedImage  # noqa: E402
from vit.images import resize as resizing  # noqa: E402
from vit.images.jpeg import decoder, fast_decode, find_frame  # noqa: E402
from vit.images.transforms import crop_box, inception, squash  # noqa: E402

SIDE = 384


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    return list(write_photographs(tmp_path_factory.mktemp("photographs")))


def test_240_photographs_of_all_kinds_decode_to_torchvisions_pixels(photographs: list[tuple[str, Path]]) -> None:
    folder = pytest.importorskip("torchvision.datasets.folder", reason="vit tests need torchvision")
    assert len(photographs) == 240
    for kind, path in photographs:
        assert np.array_equal(decode(path), np.asarray(folder.pil_loader(str(path)))), (kind, path)


@pytest.mark.parametrize("opencv", [True, False])
def test_crops_of_240_photographs_are_torchvisions_to_one_level(
    photographs: list[tuple[str, Path]], opencv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional", reason="vit tests need torchvision")
    folder = pytest.importorskip("torchvision.datasets.folder", reason="vit tests need torchvision")
    if not opencv:
        monkeypatch.setattr(resizing, "has_opencv", lambda: False)
    for number, (kind, path) in enumerate(photographs):
        theirs, ours = folder.pil_loader(str(path)), decode(path)
        left, top, right, bottom = crop_box(*theirs.size, np.random.RandomState(number))
        crop = functional.resized_crop(theirs, top, left, bottom - top, right - left, [SIDE, SIDE])
        straight = inception(ours, SIDE, np.random.RandomState(number)).astype(int)
        level = min(np.abs(pixels - np.asarray(crop)).max() for pixels in (straight, straight[:, ::-1]))
        whole = functional.resize(theirs, [SIDE, SIDE])
        squashed = squash(ours, SIDE, np.random.RandomState(0)).astype(int)
        assert max(level, np.abs(squashed - np.asarray(whole)).max()) <= 1, (kind, path)


def test_plain_photographs_take_the_fast_decoder_and_odd_ones_pillow(photographs: list[tuple[str, Path]]) -> None:
    if decoder()[1] is None:
        pytest.skip("no fast decoder here: pip install simplejpeg")
    fast = {kind for kind, path in photographs if fast_decode(path.read_bytes()) is not None}
    assert {kind for kind, _ in photographs} - fast == {"cmyk", "png"}


def test_a_photograph_cut_anywhere_is_damaged_and_never_half_grey(photographs: list[tuple[str, Path]]) -> None:
    path = next(path for kind, path in photographs if kind == "4:2:0" and path.stat().st_size > 20_000)
    data, cut = path.read_bytes(), path.with_name("cut.JPEG")
    for place in (2, 20, 200, len(data) // 2, len(data) - 200):
        cut.write_bytes(data[:place])
        with pytest.raises(DamagedImage, match=r"cut\.JPEG: cannot be decoded"):
            decode(cut)


def test_the_frame_of_any_bytes_is_found_or_refused() -> None:
    random = np.random.RandomState(0)
    for length in range(300):
        find_frame(b"\xff\xd8\xff" + random.bytes(length))
    assert find_frame(b"\xff\xd8" + b"\xff\xc0\0\x11\x08\0\x05\0\x07\x03" + bytes(9)) == (8, 5, 7, 3)


@pytest.mark.parametrize(
    ("missing", "name"),
    [([], "simplejpeg"), (["simplejpeg"], "torchvision"), (["simplejpeg", "torchvision"], "Pillow")],
)
def test_without_one_decoder_the_next_gives_the_same_pixels(
    photographs: list[tuple[str, Path]], missing: list[str], name: str
) -> None:
    pytest.importorskip("simplejpeg", reason="vit tests need simplejpeg: pip install simplejpeg")
    pytest.importorskip("torchvision", reason="vit tests need torchvision")
    paths = [str(path) for kind, path in photographs if kind in ("4:2:0", "grey", "progressive")][:12]
    program = (
        f"import sys, zlib; sys.modules.update(dict.fromkeys({missing}))\n"  # imports of those then fail as if absent
        "from vit.images.jpeg import decoder; from vit.data.datasets import decode; from pathlib import Path\n"
        "print(decoder()[0], *(zlib.crc32(decode(Path(path)).tobytes()) for path in sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], env=clean_environment(), cwd=ROOT, text=True, capture_output=True
    )
    assert done.stdout.split() == [name, *(str(zlib.crc32(decode(Path(path)).tobytes())) for path in paths)], (
        done.stderr
    )
