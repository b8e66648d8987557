# SPDX-License-Identifier: Apache-2.0
"""ImageNet's development kit of 2012: its classes, how many images each has, and the class of each validation image."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit.errors import DataError
from vit.prepare.matlab import read_mat

MEMBER_BYTES = 64 * 2**20  # the real ones have less than 1 MiB
FILES = ("data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt")


@dataclass(frozen=True, slots=True)
class Devkit:
    """What the kit's own files say."""

    num_train: Mapping[str, int]
    """Training images of each class, by its WordNet id."""
    words: Mapping[str, str]
    val_classes: tuple[str, ...]
    """The class of validation image 1, 2, ..."""


def read_devkit(path: Path) -> Devkit:
    """Return the kit out of ILSVRC2012_devkit_t12.tar.gz. Raises DataError."""
    try:
        files = _files(path)
        synsets = read_mat(files[FILES[0]])["synsets"]
        leaves = [item for item in synsets if not _number(item["num_children"])]
        by_number = {_number(item["ILSVRC2012_ID"]): str(item["WNID"]) for item in leaves}
        order = [by_number[int(line)] for line in files[FILES[1]].split()]
        return Devkit(
            num_train={str(item["WNID"]): _number(item["num_train_images"]) for item in leaves},
            words={str(item["WNID"]): str(item["words"]) for item in leaves},
            val_classes=tuple(order),
        )
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, IndexError)) else str(error)
        what = f"is not a complete development kit of ImageNet 2012 ({reason})"
        raise DataError(str(path), what, "download ILSVRC2012_devkit_t12.tar.gz again") from error


def _files(path: Path) -> dict[str, bytes]:
    """Return the two files that matter."""
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for info in archive:
            name = next((name for name in FILES if info.name.endswith(f"/{name}") or info.name == name), None)
            if name and info.isreg() and info.size <= MEMBER_BYTES:
                content = archive.extractfile(info)
                found[name] = content.read() if content else b""
    missing = [name for name in FILES if name not in found]
    if missing:
        raise ValueError(f"it lacks {missing[0]}")
    return found


def _number(value: Any) -> int:
    """Return a number that MATLAB keeps as an array of one."""
    return int(value[0])
