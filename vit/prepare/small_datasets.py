# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10, CIFAR-100 and Fashion-MNIST: the published files copied to where the trainer reads them, and read once."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vit.data.cifar_mnist import CIFARS, FASHION_FOLDERS, open_archive
from vit.errors import DataError
from vit.files import file_checksum
from vit.pins import FASHION_PINS, PINS
from vit.prepare.staging import Archive, Staging
from vit.runtime.console import Talk

# Published MD5s: the authors' pages, and torchvision/datasets/{cifar,mnist}.py.
MD5S = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
FULL = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "fashion_mnist": (60_000, 10_000)}
FASHION_FILES = tuple(name.removesuffix(".gz") for name in MD5S if name.endswith("ubyte.gz"))


def small_archives(dataset: str, folder: Path) -> list[Archive]:
    """Return the published files in `folder`, packed or not. Raises DataError."""
    found = _fashion(folder) if dataset == "fashion_mnist" else _cifar(dataset, folder)
    if not found:
        names = [form.archive for form in CIFARS.get(dataset, ())] or [f"{name}.gz" for name in FASHION_FILES]
        missing = " or ".join(names) if dataset in CIFARS else ", ".join(names)
        raise DataError(str(folder), f"does not contain {dataset}", f"put {missing} there")
    return found


def _fashion(folder: Path) -> list[Archive]:
    for place in FASHION_FOLDERS:
        paths = [next(_either(folder / place / name), None) for name in FASHION_FILES]
        if all(paths):
            return [Archive(path, MD5S.get(path.name)) for path in paths if path]
    return []


def _either(path: Path) -> Iterator[Path]:
    """Yield the file, packed or not, where it is."""
    return (one for one in (path.with_name(f"{path.name}.gz"), path) if one.is_file())


def _cifar(dataset: str, folder: Path) -> list[Archive]:
    for form in CIFARS[dataset]:
        if (folder / form.archive).is_file():
            return [Archive(folder / form.archive, MD5S.get(form.archive))]
    for form in CIFARS[dataset]:
        for place in (folder / form.folder, folder):
            paths = [place / name for name in (*form.train, *form.val, form.names)]
            if all(path.is_file() for path in paths):
                return [Archive(path) for path in paths]
    return []


def prepare_small(staging: Staging, talk: Talk) -> None:
    """Copy the files into staging.to, and read every image once. Raises TrainError."""
    names = [one.name for one in staging.archives]
    if not staging.verified:
        for one in staging.archives:
            staging.check_md5(one)
            if staging.full:
                _check_pin(one, staging.dataset)
            if one.path.parent.resolve() != staging.to.resolve():
                talk.say(f"{one.path} -> {staging.to / one.name}")
                _copy(one.path, staging.stage / one.name)
        place = staging.stage if (staging.stage / names[0]).exists() else staging.to
        splits = {split: _classes(staging.dataset, place, split) for split in ("train", "val")}
        _check_counts(staging, splits)
        staging.publish(splits, names)
    else:
        staging.put_in_place()


def _check_pin(archive: Archive, dataset: str) -> None:
    """Raise DataError for a file that is not the published one by its SHA-256, where that is known."""
    pin = (FASHION_PINS if dataset == "fashion_mnist" else PINS).get(archive.name)
    if pin and (found := file_checksum(archive.path, "sha256")) != pin:
        what = f"has the SHA-256 {found}, the published archive {pin}"
        raise DataError(str(archive.path), what, "download it again, or give --allow_subset")


def _copy(source: Path, target: Path) -> None:
    """A copy that is on the disk; what an earlier start left of it is overwritten."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _classes(dataset: str, folder: Path, split: str) -> dict[str, int]:
    """Images of each class, as the trainer will read them."""
    source = open_archive(dataset, folder, split)
    counted = Counter(source.label(index) for index in range(len(source)))
    return {name: counted[label] for label, name in enumerate(source.class_names)}


def _check_counts(staging: Staging, splits: dict[str, dict[str, int]]) -> None:
    found = tuple(sum(classes.values()) for classes in splits.values())
    if staging.full and found != FULL[staging.dataset]:
        what = f"contains {found[0]} and {found[1]} images, {staging.dataset} has {FULL[staging.dataset]}"
        raise DataError(str(staging.to), what, "take the published files; --allow_subset takes others")
