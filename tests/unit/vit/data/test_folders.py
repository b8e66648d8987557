# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import Result  # noqa: E402  # after the skip
from vit.config import Config  # noqa: E402
from vit.data.batches import open_data  # noqa: E402
from vit.data.folder_index import make_index, read_index, write_index  # noqa: E402
from vit.data.folders import Walk, skipped_text  # noqa: E402
from vit.errors import DataError  # noqa: E402
from vit.training.summary import data_lines, doubts  # noqa: E402


@pytest.fixture
def copy(images: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images, tmp_path / "copy"))


def config(root: Path, **changes: Any) -> Config:
    return Config(dataset="imagefolder", data_path=str(root), model_type="tiny", img_size=16, augment="none", **changes)


def listed(root: Path) -> list[str]:
    index = make_index(root)
    return [index.file(number) for number in range(len(index))]


def litter(root: Path) -> None:
    """What people, systems and mistakes leave in a part; no image is added."""
    image = next((root / "class_0").glob("*.png"))
    for hidden in (".ipynb_checkpoints", "__MACOSX", "class_0/.thumbnails"):
        (root / hidden).mkdir()
        shutil.copy(image, root / hidden / "x.png")
    shutil.copy(image, root / "class_1/._x.png")
    shutil.copy(image, root / "x.png")
    (root / "class_1/notes.txt").touch()
    (root / "class_1/photo.HEIC").touch()
    (root / "class_1/odd.\x1b[31m").touch()
    (root / "class_2/empty.jpg").mkdir()
    os.mkfifo(root / "class_2/pipe.jpg")
    for number, target in enumerate(("..", "../..", "../../..", ".", "../class_1", "/")):
        (root / f"class_0/loop{number}").symlink_to(target)


@pytest.mark.parametrize("part", ["train", "val"])
def test_what_is_no_image_of_a_class_is_skipped_and_counted_in_every_part(copy: Path, part: str) -> None:
    before = listed(copy / part)
    litter(copy / part)
    assert listed(copy / part) == before
    line = next(line for line in data_lines(open_data(config(copy))) if line.startswith(f"data: {part}"))
    assert line.endswith(
        "; skipped: 4 hidden, 6 folders linked again, 1 special files, 1 files outside the classes, "
        "3 unknown endings (.heic 1, .txt 1, others 1)"
    )


def test_images_per_class_are_said_from_least_to_most(copy: Path) -> None:
    lines = list(data_lines(open_data(config(copy))))
    assert lines == [
        "data: train 48 images in 3 classes (16 each)",
        "data: val 13 images in 3 classes (4 to 5 each)",
    ]


def test_counts_of_what_was_skipped_are_kept_with_the_index(copy: Path) -> None:
    litter(copy / "train")
    made = make_index(copy / "train")
    write_index(copy / "index", made)
    kept = read_index(copy / "index", copy / "train")
    assert kept is not None
    assert kept.skipped == made.skipped


@pytest.mark.parametrize("ending", [".jfif", ".JFIF", ".jpe", ".JPG", ".tiff"])
def test_endings_of_images_count_in_any_case(copy: Path, ending: str) -> None:
    image = next((copy / "train/class_0").glob("*.png"))
    shutil.copy(image, copy / f"train/class_0/zz{ending}")
    assert f"class_0/zz{ending}" in listed(copy / "train")


def test_a_folder_with_the_ending_of_an_image_is_a_folder(copy: Path) -> None:
    (copy / "train/class_0/x.jpg").mkdir()
    shutil.copy(copy / "train/class_0/000.png", copy / "train/class_0/x.jpg/a.png")
    assert "class_0/x.jpg/a.png" in listed(copy / "train")
    assert "class_0/x.jpg" not in listed(copy / "train")


def test_links_to_files_and_to_folders_elsewhere_are_followed_once(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(copy / "train/class_0/000.png", tmp_path / "elsewhere/a.png")
    (copy / "train/class_0/link.png").symlink_to(tmp_path / "elsewhere/a.png")
    for name in ("more", "again"):
        (copy / "train/class_1" / name).symlink_to(tmp_path / "elsewhere")
    found = listed(copy / "train")
    assert len(found) == 48 + 2
    assert {"class_0/link.png", "class_1/again/a.png"} <= set(found)


@pytest.mark.parametrize("target", ["class_0", ".", "..", "../train/class_2"])
def test_one_folder_under_two_classes_is_refused_by_name(copy: Path, target: str) -> None:
    (copy / "train/class_9").symlink_to(target)
    with pytest.raises(DataError, match=r"train/class_9: is the same folder as .*two labels") as caught:
        Walk(copy / "train")
    assert caught.value.exit_code == 8


def test_a_class_without_training_images_is_refused_and_without_validation_images_said(copy: Path) -> None:
    for path in (copy / "val/class_1").iterdir():
        path.unlink()
    data = open_data(config(copy))
    assert "class class_1 has no validation images: its accuracy is not measured" in list(doubts(config(copy), data))
    for path in (copy / "train/class_2").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"train/class_2: contains no images .*16 unknown endings \(\.heic 16\)"):
        open_data(config(copy))


def test_one_class_and_a_side_that_is_no_multiple_of_the_patch_are_warned_of(
    copy: Path, here: Callable[..., Result]
) -> None:
    for part in ("train", "val"):
        for number in (1, 2):
            shutil.rmtree(copy / part / f"class_{number}")
    done = here("--data_path", str(copy), "--num_steps", "1", "--img_size", "21")
    assert done.code == 0, done.err
    said = done.out + done.err
    assert "there is only one class (class_0): every prediction is right" in said
    assert "--img_size 21 is not a multiple of the patch of 8 px: the last 5 rows" in said
    assert "use 16 or 24" in said


def test_nothing_skipped_is_not_mentioned() -> None:
    assert skipped_text({}) == ""
