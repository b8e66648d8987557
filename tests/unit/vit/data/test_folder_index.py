# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from vit.data import folder_index
from vit.data.folder_index import DamagedIndex, index_files, make_index, open_index, read_index, write_index

NUM_FILES = 100_000
CASES, SEED = int(os.environ.get("INDEX_CASES", "50")), int(os.environ.get("INDEX_SEED", "0"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 empty files in 3 classes, an hour old; kept whatever their number."""
    monkeypatch.setattr(folder_index, "LEAST_KEPT", 1)
    folder = tmp_path / "data/train"
    for number in range(12):
        (folder / f"class_{number % 3}/more").mkdir(parents=True, exist_ok=True)
        (folder / f"class_{number % 3}" / ("more" if number > 8 else "") / f"é {number}.JPEG").touch()
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    for path in [*folder.rglob("*/"), folder]:
        if path.is_dir():
            os.utime(path, (time.time() - 3600,) * 2)


def listed(index: folder_index.FileIndex) -> list[tuple[str, int]]:
    return [(index.file(number), index.label(number)) for number in range(len(index))]


def places(root: Path) -> tuple[Path, ...]:
    return index_files(root, root.parents[1])


def test_the_index_is_kept_beside_the_data_and_mapped_the_next_time(root: Path) -> None:
    first = open_index(root, places(root))
    kept = read_index(root.parent / ".train.vit-index", root)
    assert kept is not None
    assert listed(kept) == listed(first) == listed(make_index(root))
    assert (kept.class_names, kept.checksum) == (first.class_names, first.checksum)
    assert listed(first)[3] == ("class_0/more/é 9.JPEG", 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "class_1/new.png").touch(),
        lambda root: (root / "class_1/é 1.JPEG").unlink(),
        lambda root: (root / "class_1/é 1.JPEG").rename(root / "class_1/other.JPEG"),
        lambda root: (root / "class_2/more/new.png").touch(),
        lambda root: (root / "class_9").mkdir(),
        lambda root: (root / "class_0").rename(root / "class_00"),
    ],
)
def test_any_change_of_the_list_is_noticed(root: Path, change: Callable[[Path], object]) -> None:
    open_index(root, places(root))
    change(root)
    assert listed(open_index(root, places(root))) == listed(make_index(root))


def test_a_folder_that_changed_just_now_is_not_kept(root: Path) -> None:
    (root / "class_0/new.png").touch()
    open_index(root, places(root))
    assert not (root.parent / ".train.vit-index").exists()


def test_a_small_set_gets_no_file_beside_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_index, "LEAST_KEPT", 13)
    open_index(root, places(root))
    assert [path.name for path in root.parent.iterdir()] == ["train"]


def test_beside_data_that_cannot_be_written_the_output_folder_keeps_it(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    paths = (root.parent / "absent/.train.vit-index", index_files(root, output)[1])
    first = open_index(root, paths)
    assert [path.name[:7] for path in output.iterdir()] == [".train-"]
    kept = read_index(paths[1], root)
    assert kept is not None
    assert listed(kept) == listed(first)
    assert listed(open_index(root, (tmp_path / "no/where",))) == listed(first)


def test_a_damaged_index_is_made_anew_with_one_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = open_index(root, places(root))
    path = root.parent / ".train.vit-index"
    whole, random = path.read_bytes(), Random(SEED)
    for number in range(CASES):
        spoilt = (cut if number % 4 == 0 else flipped)(whole, random)
        path.write_bytes(spoilt)
        caplog.clear()
        assert listed(open_index(root, places(root))) == listed(index), f"INDEX_SEED={SEED}, case {number}"
        assert [record.message[:25] for record in caplog.records] == ["the file index is damaged"], number
        assert path.read_bytes() == whole, number


def cut(content: bytes, random: Random) -> bytes:
    """The first bytes alone."""
    return content[: random.randrange(len(content))]


def flipped(content: bytes, random: Random) -> bytes:
    """1, 2 or 200 bytes changed."""
    spoilt = bytearray(content)
    for place in random.sample(range(len(content)), min(random.choice((1, 2, 200)), len(content))):
        spoilt[place] ^= random.randrange(1, 256)
    return bytes(spoilt)


@pytest.mark.parametrize("place", [0, 1])
def test_an_index_intact_in_the_second_place_needs_no_warning(
    root: Path, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    index = open_index(root, places(root))
    for path in places(root):
        write_index(path, index)
    places(root)[place].write_bytes(folder_index.MAGIC)
    assert listed(open_index(root, places(root))) == listed(index)
    assert not caplog.records


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a label beyond the classes": lambda of: of["labels"].__setitem__(5, 3),
    "a negative label": lambda of: of["labels"].__setitem__(0, -1),
    "a name that ends before it starts": lambda of: of["ends"].__setitem__(3, 1),
    "an empty name": lambda of: of["ends"].__setitem__(3, of["ends"][2]),
    "a name beyond the last": lambda of: of["ends"].__setitem__(-1, 2**63),
    "a NUL in a name": lambda of: of["names"].__setitem__(2, 0),
    "names that are left over": lambda of: of.update(ends=of["ends"][:-1], labels=of["labels"][:-1]),
    "a class that no folder has": lambda of: of["class_names"].__setitem__(0, "absent"),
    "classes in another order": lambda of: of["class_names"].reverse(),
    "a class twice": lambda of: of["class_names"].__setitem__(1, "class_0"),
    "classes that are numbers": lambda of: of.update(class_names=[1, 2, 3]),
    "classes that are a text": lambda of: of.update(class_names="class_0"),
    "a class that UTF-8 cannot have": lambda of: of["class_names"].__setitem__(2, "\ud800"),
    "stamps that are a list": lambda of: of.update(stamps=["", "class_0"]),
    "a stamp that is a text": lambda of: of["stamps"].update({"": "now"}),
    "a folder with a NUL": lambda of: of["stamps"].update({"a\0b": 1}),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_an_index_with_right_checksums_and_wrong_content_is_made_anew(
    root: Path, hostile: Callable[[dict[str, Any]], object]
) -> None:
    index = open_index(root, places(root))
    arrays = {name: getattr(index, name).copy() for name in ("ends", "labels", "names")}
    content = {**arrays, "class_names": list(index.class_names), "stamps": dict(index.stamps)}
    hostile(content)
    checksum = folder_index._checksum(content["class_names"], content["ends"], content["labels"], content["names"])
    path = root.parent / ".train.vit-index"
    write_index(path, folder_index.FileIndex(**content, checksum=checksum, skipped={}))
    with pytest.raises(DamagedIndex):
        read_index(path, root)
    assert listed(open_index(root, places(root))) == listed(index)


HEADS = [
    "[]",
    "1",
    "null",
    '"x"',
    "{}",
    "[" * 100_000,
    '{"files": true}',
    '{"files": 1e999}',
    '{"files": -1}',
    "NaN",
    "9" * 9999,
]


@pytest.mark.parametrize("text", HEADS, ids=range(len(HEADS)))
def test_a_first_line_of_other_json_is_damage(root: Path, text: str) -> None:
    path = root.parent / ".train.vit-index"
    path.write_bytes(folder_index.MAGIC + b"%08x %s\n" % (zlib.crc32(text.encode()), text.encode()))
    with pytest.raises(DamagedIndex):
        read_index(path, root)


def test_what_is_no_file_and_what_an_older_trainer_wrote_is_passed_over_in_silence(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = root.parent / ".train.vit-index"
    os.mkfifo(path)
    open_index(root, (path,))
    path.unlink(missing_ok=True)
    path.write_bytes(b'{"format": 1, "files": 12, "labels": "int16", "names": 1, "crc": 1}\n')
    open_index(root, (path,))
    assert not caplog.records


def test_lists_that_differ_in_a_class_a_name_or_a_label_have_other_checksums(root: Path) -> None:
    found = [make_index(root).checksum]
    (root / "class_0").rename(root / "class_00")
    found.append(make_index(root).checksum)
    (root / "class_1/é 1.JPEG").rename(root / "class_1/é 2.JPEG")
    found.append(make_index(root).checksum)
    (root / "class_1/é 2.JPEG").rename(root / "class_2/é 0.JPEG")
    assert len({*found, make_index(root).checksum}) == 4


def test_ranks_that_start_at_once_all_get_the_whole_index(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(8) as pool:
        found = pool.starmap(_listed_by_a_rank, [(root,)] * 64, chunksize=1)
    assert found == [listed(make_index(root))] * 64
    assert sorted(path.name for path in root.parent.iterdir()) == [".train.vit-index", "train"]


def _listed_by_a_rank(root: Path) -> list[tuple[str, int]]:
    return listed(open_index(root, places(root)))


def test_100_000_files_cost_a_process_under_5_mb_and_no_object_each(tmp_path: Path) -> None:
    root = tmp_path / "train"
    for number in range(100):
        (root / f"n{number:08d}").mkdir(parents=True)
        for place in range(NUM_FILES // 100):
            os.mknod(root / f"n{number:08d}/n{number:08d}_{place}.JPEG")
    settle(root)
    tracemalloc.start()
    made = make_index(root)
    assert len(made) == NUM_FILES
    assert tracemalloc.get_traced_memory()[0] < 5_000_000
    write_index(tmp_path / "index", made)
    tracemalloc.clear_traces()
    kept = read_index(tmp_path / "index", root)
    assert kept is not None
    assert kept.file(NUM_FILES - 1) == "n00000099/n00000099_999.JPEG"
    assert tracemalloc.get_traced_memory()[0] < 200_000
    tracemalloc.stop()
    shutil.rmtree(root)
