# SPDX-License-Identifier: Apache-2.0
"""Small archives in the formats of CIFAR's and Fashion-MNIST's authors, written here byte by byte."""

from __future__ import annotations

import gzip
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from vit.data.cifar_mnist import CIFARS, open_archive  # noqa: E402  # after the skip
from vit.errors import DataError  # noqa: E402

PIXELS = np.random.RandomState(0).randint(0, 256, (60, 3, 32, 32)).astype("uint8")  # 10 in each of the 6 files
LABELS = np.arange(60) % 10


def write_cifar(root: Path, dataset: str, form: int) -> Path:
    """A whole set of 50 + 10 images; its folder."""
    cifar = CIFARS[dataset][form]
    folder = root / cifar.folder
    folder.mkdir(parents=True)
    files = cifar.train + cifar.val
    for number, name in enumerate(files):
        part = slice(10 * number, 10 * number + 10)
        (folder / name).write_bytes(cifar_file(dataset, PIXELS[part], LABELS[part], binary=cifar.binary))
    names = [f"name{number}" for number in range(10 if dataset == "cifar10" else 100)]
    key = b"label_names" if dataset == "cifar10" else b"fine_label_names"
    packed = pickle.dumps({key: [name.encode() for name in names]}, protocol=2)
    (folder / cifar.names).write_bytes("\n".join([*names, ""]).encode() if cifar.binary else packed)
    return folder


def cifar_file(dataset: str, pixels: Any, labels: Any, *, binary: bool) -> bytes:
    if not binary:
        key = b"labels" if dataset == "cifar10" else b"fine_labels"
        return pickle.dumps({b"data": pixels.reshape(10, -1), key: labels.tolist()}, protocol=2)
    columns = [labels[:, None].astype("uint8"), pixels.reshape(10, -1)]
    coarse = [] if dataset == "cifar10" else [np.full((10, 1), 7, "uint8")]
    return bytes(np.concatenate([*coarse, *columns], axis=1).tobytes())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_authors_files(tmp_path: Path, dataset: str, form: int, packed: bool) -> None:
    folder = write_cifar(tmp_path / "unpacked", dataset, form)
    root = folder.parent
    if packed:
        root = tmp_path
        with tarfile.open(root / CIFARS[dataset][form].archive, "w:gz") as archive:
            archive.add(folder, folder.name)
    val = open_archive(dataset, root, "val")
    num_train = 10 * len(CIFARS[dataset][form].train)
    assert len(open_archive(dataset, root, "train")) == num_train
    assert np.array_equal(np.asarray(val.image(3)).transpose(2, 0, 1), PIXELS[num_train + 3])
    assert val.class_names[val.label(3)] == f"name{LABELS[num_train + 3]}"


def test_a_pickle_that_asks_for_more_than_numbers_is_refused(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, "cifar10", 0)
    (folder / "test_batch").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(DataError, match=r"it asks for posix\.system, which CIFAR files do not need"):
        open_archive("cifar10", tmp_path, "val")


def write_fashion(root: Path, packed: bool) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for stem, start, stop in (("train", 0, 50), ("t10k", 50, 60)):
        images, labels = PIXELS[start:stop, 0, :28, :28], LABELS[start:stop].astype("uint8")
        for name, array, magic in (("images-idx3", images, 0x803), ("labels-idx1", labels, 0x801)):
            head = b"".join(int(number).to_bytes(4, "big") for number in (magic, *array.shape))
            content = head + array.tobytes()
            path = root / f"{stem}-{name}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_is_read_packed_and_unpacked(tmp_path: Path, packed: bool) -> None:
    write_fashion(tmp_path, packed)
    train, val = (open_archive("fashion_mnist", tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (50, 10)
    assert val.image(2).shape == (28, 28, 3)
    assert np.array_equal(np.asarray(val.image(2))[:, :, 1], PIXELS[52, 0, :28, :28])
    assert val.class_names[val.label(9)] == "Ankle boot"


def test_a_cut_off_file_is_named_as_such(tmp_path: Path) -> None:
    write_fashion(tmp_path, packed=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"does not contain a complete fashion_mnist .* download the files again"):
        open_archive("fashion_mnist", tmp_path, "val")


def test_a_folder_without_the_files_is_told_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected --data_path to contain cifar-10-batches-py/ or cifar-10-python\.tar\.gz"
    ):
        open_archive("cifar10", tmp_path, "train")
    with pytest.raises(DataError, match="expected --data_path to contain Fashion-MNIST's four files"):
        open_archive("fashion_mnist", tmp_path, "train")
