# SPDX-License-Identifier: Apache-2.0
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
from vit.data.batches import open_data  # noqa: E402
from vit.data.datasets import FolderSource, decode  # noqa: E402
from vit.errors import DataError  # noqa: E402
from vit.images.transforms import centre_crop  # noqa: E402


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
    batch = open_data(config(images)).val.batch([(0, 0), (0, -1)])
    file = np.asarray(Image.open(images / "val/class_0/000.png"))
    assert np.array_equal(batch.images[0].numpy(), file)
    assert batch.labels.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root / "val"), "copy/val: cannot be read (No such file or directory), expected"),
        (lambda root: [path.unlink() for path in root.glob("val/*/*")], "copy/val: contains no images, expected"),
        (lambda root: shutil.rmtree(root / "val/class_1"), "class_1 is in train alone (1 such)"),
        (lambda root: (root / "val/zebra").mkdir(), "zebra is in val alone (1 such)"),
    ],
)
def test_a_wrong_folder_is_named_with_what_was_expected(copy: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(copy)
    with pytest.raises(DataError) as caught:
        open_data(config(copy))
    assert message in str(caught.value)


def test_a_corrupt_image_is_named_and_the_next_one_taken(copy: Path) -> None:
    bad = copy / "train/class_0/000.png"
    bad.write_bytes(bad.read_bytes()[:60])
    batch = open_data(config(copy)).train.batch([(0, 0), (0, 1)])
    assert torch.equal(batch.images[0], batch.images[1])
    assert len(batch.damaged) == 1
    assert "train/class_0/000.png: cannot be decoded" in batch.damaged[0]


def test_a_corrupt_validation_image_is_named_and_becomes_padding(copy: Path) -> None:
    (copy / "val/class_0/000.png").write_bytes(b"no image")
    batch = open_data(config(copy)).val.batch([(0, 0), (0, 1)])
    assert batch.labels.tolist() == [-1, 0]
    assert "val/class_0/000.png: cannot be decoded" in batch.damaged[0]


def test_ten_corrupt_images_in_a_row_are_a_fault_of_the_data_set(copy: Path) -> None:
    for path in sorted((copy / "train/class_0").iterdir())[:10]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot be decoded .* like 9 images before it"):
        open_data(config(copy)).train.batch([(0, 0)])


def test_a_file_that_cannot_be_read_is_no_damaged_image(copy: Path) -> None:
    (copy / "train/class_0/000.png").unlink()
    (copy / "train/class_0/000.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"000\.png: cannot be read \(No such file or directory\)"):
        open_data(config(copy)).train.batch([(0, 0)])


def odd_images(folder: Path) -> dict[str, Path]:
    """Images of every awkward kind."""
    random = np.random.RandomState(0)
    photo = Image.fromarray(random.randint(0, 256, (20, 30, 3)).astype("uint8"))
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    paths = {name: folder / name for name in ("cmyk.jpg", "turned.jpg", "grey.jpg", "moving.gif")}
    photo.convert("CMYK").save(paths["cmyk.jpg"])
    photo.save(paths["turned.jpg"], exif=turned)
    photo.convert("L").save(paths["grey.jpg"])
    photo.save(paths["moving.gif"], save_all=True, append_images=[photo.rotate(90)])
    photo.save(folder / "moving.webp", save_all=True, append_images=[photo.rotate(90)], lossless=True)
    return {**paths, "moving.webp": folder / "moving.webp"}


def test_odd_images_are_decoded_as_torchvision_does(tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets.folder", reason="vit tests need torchvision")
    for name, path in odd_images(tmp_path).items():
        assert np.array_equal(np.asarray(decode(path)), np.asarray(folder.pil_loader(str(path)))), name


def test_an_image_folder_lists_the_files_that_torchvision_lists(copy: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets", reason="vit tests need torchvision")
    (copy / "train/class_1/more/deeper").mkdir(parents=True)
    for name in ("more/b.webp", "more/deeper/a.BMP", "z.JPEG", "notes.txt"):
        shutil.copy(copy / "train/class_0/000.png", copy / "train/class_1" / name)
    source, theirs = FolderSource(copy / "train"), datasets.ImageFolder(str(copy / "train"))
    ours = [(str(copy / "train" / source.index.file(i)), source.label(i)) for i in range(len(source))]
    assert ours == theirs.samples


def test_the_centre_is_cropped_as_torchvision_does(images: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="vit tests need torchvision")
    theirs = transforms.Compose([transforms.Resize(18), transforms.CenterCrop(16)])
    for size in ((40, 25), (25, 41), (16, 16), (18, 18)):
        image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (*size, 3)).astype("uint8"))
        ours = centre_crop(0.875)(np.asarray(image), 16, np.random.RandomState(0))
        assert np.abs(ours.astype(int) - np.asarray(theirs(image))).max() <= 1, size


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16", "1"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new(mode, (5, 4)).save(path)
    image = decode(path)
    assert (image.dtype, image.shape) == (np.uint8, (4, 5, 3))


def test_a_small_set_is_decoded_once(copy: Path) -> None:
    source = FolderSource(copy / "train")
    first = source.image(0)
    (copy / "train" / source.index.file(0)).unlink()
    assert source.image(0) is first


def test_synthetic_images_depend_on_seed_and_index_alone() -> None:
    flags: dict[str, Any] = {"dataset": "synthetic", "synthetic_images": 20, "synthetic_classes": 3}
    first, again, other = (open_data(Config(img_size=16, seed=seed, **flags)) for seed in (0, 0, 1))
    images = [np.asarray(data.train.source.image(4)) for data in (first, again, other)]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    assert (len(first.train.source), len(first.val.source), first.num_classes) == (20, 2, 3)
