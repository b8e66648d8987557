"""Images from folders or invented ones, decoded to uint8 batches."""

from __future__ import annotations

import contextlib
import os
import signal
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vit.augment import TRANSFORMS, Pixels, Transform, squash
from vit.config import Config
from vit.errors import DataError
from vit.order import PADDING, Key, sample_random

EXTENSIONS = (".jpg", ".jpeg", ".png")
CACHE_IMAGES = 20_000  # only small sets are kept decoded: a part of ImageNet in memory helps nobody
CACHE_BYTES = 256 * 2**20  # per process that decodes
PADDING_LABEL = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (B, S, S, 3) uint8 and labels (B) int64, -1 for padding."""

    images: Tensor
    labels: Tensor

    def pin_memory(self) -> Batch:
        """The same in page-locked memory; the DataLoader calls it for CUDA."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory())


class Source(Protocol):
    """A list of images with labels."""

    class_names: list[str]

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """Image number `index`, RGB. Raises DataError."""
        ...

    def label(self, index: int) -> int:
        """Its class as an index of class_names."""
        ...

    def fingerprint(self) -> int:
        """A number that differs when the list does."""
        ...


class FolderSource:
    """The images of root/<class>/*, classes and files sorted by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.class_names = _sorted_names(root, folders=True)
        self.files: list[str] = []
        self.labels: list[int] = []
        for label, name in enumerate(self.class_names):
            found = _sorted_names(root / name, folders=False)
            self.files += [f"{name}/{file}" for file in found]
            self.labels += [label] * len(found)
        if not self.files:
            expected = f"expected images as {root}/<class>/<image> ({', '.join(EXTENSIONS)})"
            raise DataError(str(root), "holds no images", expected)
        self.cache: dict[int, Image.Image] = {}
        self.cache_left = CACHE_BYTES if len(self.files) <= CACHE_IMAGES else 0

    def __len__(self) -> int:
        return len(self.files)

    def label(self, index: int) -> int:
        """Index of the folder's name among the sorted names."""
        return self.labels[index]

    def image(self, index: int) -> Image.Image:
        """The decoded file, from memory where a small set was read before."""
        if index in self.cache:
            return self.cache[index]
        image = decode(self.root / self.files[index])
        size = 3 * image.width * image.height
        if size <= self.cache_left:
            self.cache[index] = image
            self.cache_left -= size
        return image

    def fingerprint(self) -> int:
        """CRC-32 of all file names."""
        return zlib.crc32("\n".join(self.files).encode(errors="surrogateescape"))


class SyntheticSource:
    """Random images that nothing can be learnt from: for measuring speed and trying a set-up."""

    def __init__(self, *, num_images: int, num_classes: int, side: int, seed: int) -> None:
        self.num_images, self.side, self.seed = num_images, side, seed
        self.class_names = [f"class_{number:05d}" for number in range(num_classes)]

    def __len__(self) -> int:
        return self.num_images

    def label(self, index: int) -> int:
        """Classes in turn."""
        return index % len(self.class_names)

    def image(self, index: int) -> Image.Image:
        """Noise that depends on seed and index alone."""
        noise = np.random.RandomState([self.seed, index, 2]).bytes(3 * self.side**2)
        return Image.frombytes("RGB", (self.side, self.side), noise)

    def fingerprint(self) -> int:
        """The number of images."""
        return self.num_images


def decode(path: Path) -> Image.Image:
    """The image as RGB. Raises DataError with the file's name."""
    try:
        with Image.open(path) as image:
            rgb: Image.Image = image.convert("RGB")
            return rgb
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises on bad files
        raise DataError(str(path), f"cannot be decoded ({error})", "replace or remove the file") from error


@dataclass(kw_only=True)
class Batches(Dataset[Batch | DataError]):
    """Keys -> Batch; an error is returned, since the DataLoader cannot carry our exceptions between processes."""

    source: Source
    transform: Transform
    side: int
    seed: int

    def __getitem__(self, keys: list[Key]) -> Batch | DataError:
        images = np.zeros((len(keys), self.side, self.side, 3), np.uint8)
        labels = np.full(len(keys), PADDING_LABEL, np.int64)
        try:
            for position, key in enumerate(keys):
                if key != PADDING:
                    images[position], labels[position] = self._load(key)
        except DataError as error:
            return error
        return Batch(torch.from_numpy(images), torch.from_numpy(labels))

    def _load(self, key: Key) -> tuple[Pixels, int]:
        random = sample_random(self.seed, key)
        return self.transform(self.source.image(key[1]), self.side, random), self.source.label(key[1])


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and validation images with the same classes."""

    train: Batches
    val: Batches
    class_names: list[str] = field(repr=False)

    @property
    def num_classes(self) -> int:
        """len(class_names)."""
        return len(self.class_names)


def open_data(config: Config) -> Data:
    """The data set named by the flags. Raises DataError."""
    if config.dataset == "synthetic":
        make = partial(SyntheticSource, num_classes=config.synthetic_classes, side=config.image_size)
        train: Source = make(num_images=config.synthetic_images, seed=config.seed)
        val: Source = make(num_images=max(1, config.synthetic_images // 10), seed=config.seed + 1)
    else:
        root = Path(config.data_path)
        train, val = FolderSource(root / "train"), FolderSource(root / "val")
        _check_classes(train, val, root)
    common = {"side": config.image_size, "seed": config.seed}
    return Data(
        train=Batches(source=train, transform=TRANSFORMS[config.augment], **common),
        val=Batches(source=val, transform=squash, **common),
        class_names=train.class_names,
    )


def _check_classes(train: Source, val: Source, root: Path) -> None:
    only = sorted(set(train.class_names) ^ set(val.class_names))
    if only:
        where = "train" if only[0] in train.class_names else "val"
        what = f"train and val have different classes: {only[0]} is in {where} alone ({len(only)} such)"
        raise DataError(str(root), what, "make the folders in train/ and val/ agree")


def _sorted_names(folder: Path, *, folders: bool) -> list[str]:
    """Names of the sub-folders, or of the image files, of a folder. Raises DataError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            if folders:
                return sorted(entry.name for entry in entries if entry.is_dir())
            return sorted(entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS))
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        expected = "expected --data_path to hold train/<class>/<image> and val/<class>/<image>"
        raise DataError(str(folder), what, expected) from error


def open_loader(
    batches: Batches, keys: Iterable[list[Key]], *, num_workers: int, worker_context: str, pin_memory: bool
) -> DataLoader[Any]:
    """An iterable of Batch or DataError, decoded ahead by `num_workers` processes."""
    return DataLoader(
        batches,
        batch_size=None,  # a key list is already a batch
        sampler=keys,
        collate_fn=_unchanged,
        num_workers=num_workers,
        multiprocessing_context=worker_context if num_workers else None,
        worker_init_fn=_quiet_worker,
        pin_memory=pin_memory,
        prefetch_factor=4 if num_workers else None,
    )


def _unchanged(batch: Any) -> Any:
    return batch


def _quiet_worker(_: int) -> None:
    """The rank decides about signals: workers end with it, not before."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    torch.set_num_threads(1)


@contextlib.contextmanager
def named_worker_faults() -> Iterator[None]:
    """Turn torch's RuntimeError about a loader process that was killed into a DataError."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        fix = "give the pod more memory or lower --num_workers, if nobody killed it"
        raise DataError("data", f"a process that decodes images is gone ({str(error).strip()})", fix) from error


def checked(item: Batch | DataError) -> Batch:
    """The batch, or raise the error that its worker met."""
    if isinstance(item, DataError):
        raise item
    return item
