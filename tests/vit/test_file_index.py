from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from vit import file_index
from vit.file_index import index_files, make_index, open_index, read_index, write_index

NUM_FILES = 100_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 empty files in 3 classes, an hour old; kept whatever their number."""
    monkeypatch.setattr(file_index, "LEAST_KEPT", 1)
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


def listed(index: file_index.FileIndex) -> list[tuple[str, int]]:
    return [(index.file(number), index.label(number)) for number in range(len(index))]


def places(root: Path) -> tuple[Path, ...]:
    return index_files(root, root.parents[1])


def test_the_index_is_kept_beside_the_data_and_mapped_the_next_time(root: Path) -> None:
    first = open_index(root, places(root))
    kept = read_index(root.parent / ".train.vit-index", root)
    assert kept is not None
    assert listed(kept) == listed(first) == listed(make_index(root))
    assert (kept.class_names, kept.fingerprint) == (first.class_names, first.fingerprint)
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
    monkeypatch.setattr(file_index, "LEAST_KEPT", 13)
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


def test_an_index_cut_or_spoilt_anywhere_is_made_anew(root: Path) -> None:
    index = open_index(root, places(root))
    path = root.parent / ".train.vit-index"
    whole = path.read_bytes()
    for length in [0, 1, 10, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert read_index(path, root) is None
        assert listed(open_index(root, places(root))) == listed(index)
    path.write_bytes(b"{}\n" + whole)
    assert read_index(path, root) is None


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
