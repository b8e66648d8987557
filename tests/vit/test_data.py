from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip
from PIL import Image  # noqa: E402

from vit.config import Config  # noqa: E402
from vit.data import FolderSource, checked, decode, open_data, open_loader  # noqa: E402
from vit.errors import DataError  # noqa: E402


def config(root: Path, **changes: Any) -> Config:
    return Config(dataset="imagefolder", data_path=str(root), model_type="tiny", img_size=16, augment="none", **changes)


@pytest.fixture
def copy(images: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images, tmp_path / "copy"))


def test_classes_and_files_are_sorted_and_both_parts_agree(images: Path) -> None:
    data = open_data(config(images))
    assert data.class_names == ["class_0", "class_1", "class_2"]
    assert (len(data.train.source), len(data.val.source)) == (48, 13)
    assert [data.train.source.label(index) for index in (0, 15, 16, 47)] == [0, 0, 1, 2]


def test_a_batch_holds_the_decoded_pixels_and_padding_has_label_minus_1(images: Path) -> None:
    batch = checked(open_data(config(images)).val[[(0, 0), (0, -1)]])
    file = np.asarray(Image.open(images / "val/class_0/000.png"))
    assert np.array_equal(batch.images[0].numpy(), file)
    assert batch.labels.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root / "val"), "copy/val: cannot be read (No such file or directory), expected"),
        (lambda root: [path.unlink() for path in root.glob("val/*/*")], "copy/val: holds no images, expected"),
        (lambda root: shutil.rmtree(root / "val/class_1"), "class_1 is in train alone (1 such)"),
        (lambda root: (root / "val/zebra").mkdir(), "zebra is in val alone (1 such)"),
    ],
)
def test_a_wrong_folder_is_named_with_what_was_expected(copy: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(copy)
    with pytest.raises(DataError) as caught:
        open_data(config(copy))
    assert message in str(caught.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_image_is_named_also_from_a_worker_process(copy: Path, num_workers: int) -> None:
    bad = copy / "train/class_0/000.png"
    bad.write_bytes(bad.read_bytes()[:60])
    train = open_data(config(copy)).train
    loader = open_loader(train, [[(0, 0)]], num_workers=num_workers, worker_context="fork", pin_memory=False)
    with pytest.raises(DataError, match=r"train/class_0/000\.png: cannot be decoded"):
        checked(next(iter(loader)))


def test_workers_and_the_main_process_give_the_same_batches(images: Path) -> None:
    train, keys = open_data(config(images)).train, [[(0, 3), (1, 4)], [(0, 40), (0, 41)]]
    batches = [
        list(open_loader(train, keys, num_workers=n, worker_context="forkserver", pin_memory=False)) for n in (0, 2)
    ]
    assert all(torch.equal(a.images, b.images) for a, b in zip(*batches, strict=True))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16", "1"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new(mode, (5, 4)).save(path)
    image = decode(path)
    assert (image.mode, image.size) == ("RGB", (5, 4))


def test_a_small_set_is_decoded_once(copy: Path) -> None:
    source = FolderSource(copy / "train")
    first = source.image(0)
    (copy / "train" / source.files[0]).unlink()
    assert source.image(0) is first


def test_synthetic_images_depend_on_seed_and_index_alone() -> None:
    flags: dict[str, Any] = {"dataset": "synthetic", "synthetic_images": 20, "synthetic_classes": 3}
    first, again, other = (open_data(Config(img_size=16, seed=seed, **flags)) for seed in (0, 0, 1))
    images = [np.asarray(data.train.source.image(4)) for data in (first, again, other)]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    assert (len(first.train.source), len(first.val.source), first.num_classes) == (20, 2, 3)
