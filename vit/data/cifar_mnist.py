# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10, CIFAR-100 and Fashion-MNIST from the files that their authors publish, packed or unpacked."""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit.data.bounded import gunzip, read_at_most, unpickle
from vit.data.sources import Array, ArraySource
from vit.errors import DataError

DAMAGE = (  # what tarfile, numpy and a pickle's content can raise
    *(OSError, EOFError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError, RecursionError),
    *(zlib.error, lzma.LZMAError, tarfile.TarError),
)

FASHION_CLASSES = (  # the authors' README; the files contain numbers only
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FASHION_FOLDERS = ("", "fashion-mnist", "FashionMNIST/raw")
MOST_BYTES = 2**29  # of a file when unpacked; the largest published one has 154 MB
IDX_IMAGES, IDX_LABELS = 0x0803, 0x0801  # unsigned bytes in three dimensions, and in one


@dataclass(frozen=True, slots=True)
class Cifar:
    """One of the two sets in one of its two forms."""

    archive: str
    folder: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    names: str
    """The file with the classes' names."""

    @property
    def binary(self) -> bool:
        """Whether the files are records of bytes, and not Python's pickles."""
        return self.names.endswith(".txt")


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFARS = {
    "cifar10": (
        Cifar("cifar-10-python.tar.gz", "cifar-10-batches-py", BATCHES, ("test_batch",), "batches.meta"),
        Cifar(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            tuple(f"{name}.bin" for name in BATCHES),
            ("test_batch.bin",),
            "batches.meta.txt",
        ),
    ),
    "cifar100": (
        Cifar("cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",), "meta"),
        Cifar("cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), ("test.bin",), "fine_label_names.txt"),
    ),
}


def open_archive(dataset: str, root: Path, split: str) -> ArraySource:
    """Return the images of split "train" or "val" of cifar10, cifar100 or fashion_mnist in `root`. Raises DataError."""
    try:
        return _open_fashion(root, split) if dataset == "fashion_mnist" else _open_cifar(dataset, root, split)
    except (*DAMAGE, MemoryError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        what = f"does not contain a complete {dataset} ({reason or 'it needs more memory than is available'})"
        raise DataError(str(root), what, "download the files again") from error


def _open_cifar(dataset: str, root: Path, split: str) -> ArraySource:
    for form in CIFARS[dataset]:
        parts = form.train if split == "train" else form.val
        files = _members(root, form, (*parts, form.names))
        if files is not None:
            read = _read_binary if form.binary else _read_pickle
            batches = [read(files[name], dataset) for name in parts]
            images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
            return _checked(images, labels, _class_names(files[form.names], form))
    names = " or ".join(f"{form.folder}/ or {form.archive}" for form in CIFARS[dataset])
    raise DataError(str(root), f"does not contain {dataset}", f"expected --data_path to contain {names}")


def _members(root: Path, form: Cifar, names: tuple[str, ...]) -> dict[str, bytes] | None:
    """Return the named files out of root/<folder>, root itself or root/<archive>; None where they are not."""
    for folder in (root / form.folder, root):
        if all((folder / name).is_file() for name in names):
            return {name: (folder / name).read_bytes() for name in names}
    if not (root / form.archive).is_file():
        return None
    with tarfile.open(root / form.archive) as archive:
        found = {}
        for member in archive:
            name = member.name.removeprefix("./").removeprefix(f"{form.folder}/")
            content = archive.extractfile(member) if name in names else None
            if content is not None:
                found[name] = read_at_most(content, MOST_BYTES, name)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{form.archive} lacks {missing[0]}")
    return found


def _read_pickle(content: bytes, dataset: str) -> tuple[Array, Array]:
    found = _read_mapping(content)
    labels = found[b"labels" if dataset == "cifar10" else b"fine_labels"]
    pixels = np.asarray(found[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return pixels.transpose(0, 2, 3, 1), np.asarray(labels, np.int64)


def _read_mapping(content: bytes) -> Mapping[bytes, Any]:
    found = unpickle(_PlainUnpickler(io.BytesIO(content), encoding="bytes"))
    if not isinstance(found, dict):
        raise ValueError("a pickle of it does not contain a dictionary")
    return found


def _read_binary(content: bytes, dataset: str) -> tuple[Array, Array]:
    num_labels = 1 if dataset == "cifar10" else 2  # CIFAR-100 has the coarse label first
    records = np.frombuffer(content, np.uint8).reshape(-1, num_labels + 3 * 32 * 32)
    pixels = records[:, num_labels:].reshape(-1, 3, 32, 32)
    return pixels.transpose(0, 2, 3, 1), records[:, num_labels - 1].astype(np.int64)


def _class_names(content: bytes, form: Cifar) -> list[str]:
    if form.binary:
        return content.decode().split()
    found = _read_mapping(content)
    names = found[b"fine_label_names" if b"fine_label_names" in found else b"label_names"]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


class _PlainUnpickler(pickle.Unpickler):
    """Reads numpy arrays, lists and texts; anything else in the pickle is refused before it is touched."""

    ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return a name that CIFAR's own files use."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR files do not need")
        return super().find_class(module, name)


def _open_fashion(root: Path, split: str) -> ArraySource:
    stem = "train" if split == "train" else "t10k"
    images = _read_idx(_find_idx(root, f"{stem}-images-idx3-ubyte"), IDX_IMAGES)
    labels = _read_idx(_find_idx(root, f"{stem}-labels-idx1-ubyte"), IDX_LABELS)
    return _checked(images, labels.astype(np.int64), list(FASHION_CLASSES))


def _find_idx(root: Path, name: str) -> Path:
    for folder in FASHION_FOLDERS:
        for path in (root / folder / name, root / folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(
        str(root), f"does not contain {name} or {name}.gz", "expected --data_path to contain Fashion-MNIST's four files"
    )


def _read_idx(path: Path, magic: int) -> Array:
    """Return the array of an idx file: a magic number, the lengths of the dimensions, then bytes."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    content = gunzip(path, MOST_BYTES) if packed else path.read_bytes()
    if len(content) < 4 or int.from_bytes(content[:4], "big") != magic:
        raise ValueError(f"{path.name} does not begin as an idx file of this kind")
    start = 4 + 4 * (magic & 0xFF)
    shape = [int(size) for size in np.frombuffer(content[4:start], ">u4")]
    return np.frombuffer(content[start:], np.uint8).reshape(shape)


def _checked(images: Array, labels: Array, class_names: list[str]) -> ArraySource:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(f"labels are not those of {len(class_names)} classes")
    return ArraySource(np.ascontiguousarray(images), labels, class_names)
