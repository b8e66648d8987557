# SPDX-License-Identifier: Apache-2.0
"""Small archives in the format of ILSVRC2012's, out of real photographs and scans that packages ship."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
WNIDS = ("n01440764", "n01443537", "n02105855", "n03255030")


@functools.cache
def jpegs() -> tuple[bytes, ...]:
    """scikit-learn's two photographs in four crops each, and its first scans of digits, as JPEG."""
    from sklearn.datasets import load_digits, load_sample_images

    loaded: Any = load_sample_images()
    digits: Any = load_digits()
    crops = [photo[y : y + 200, x : x + 200] for photo in loaded.images for y in (0, 200) for x in (0, 300)]
    scans = [np.repeat(np.repeat(scan * 15, 8, 0), 8, 1).astype(np.uint8) for scan in digits.images[:40]]
    return tuple(_jpeg(Image.fromarray(pixels)) for pixels in (*crops, *scans))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def write_tar(path: Path | io.BytesIO, files: dict[str, bytes]) -> None:
    """A plain tar of these files."""
    opened: Any = {"fileobj": path} if isinstance(path, io.BytesIO) else {"name": path}
    with tarfile.open(mode="w", **opened) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def tar_of(files: dict[str, bytes]) -> bytes:
    """The same as bytes."""
    file = io.BytesIO()
    write_tar(file, files)
    return file.getvalue()


def write_archives(folder: Path, num_train: int = 6, num_val: int = 3) -> dict[str, str]:
    """The three archives; the md5 of each file of the tree that they make."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, bytes] = {}
    images = jpegs()
    tars = {}
    for number, wnid in enumerate(WNIDS):
        files = {f"{wnid}_{k}.JPEG": images[(7 * number + k) % len(images)] for k in range(num_train)}
        tars[f"{wnid}.tar"] = tar_of(files)
        wanted |= {f"train/{wnid}/{name}": content for name, content in files.items()}
    write_tar(folder / TRAIN_TAR, tars)
    labels = [(3 * k) % len(WNIDS) for k in range(num_val * len(WNIDS))]  # not in the order of the numbers
    val = {f"ILSVRC2012_val_{k + 1:08d}.JPEG": images[(11 * k) % len(images)] for k in range(len(labels))}
    write_tar(folder / VAL_TAR, val)
    wanted |= {f"val/{WNIDS[label]}/{name}": val[name] for label, name in zip(labels, val, strict=True)}
    write_devkit(folder / DEVKIT, [num_train] * len(WNIDS), [label + 1 for label in labels])
    return {name: hashlib.md5(content).hexdigest() for name, content in wanted.items()}


def write_devkit(path: Path, counts: list[int], truth: list[int]) -> None:
    """The kit: classes 1 to 4, and one more that has children, as WordNet's inner nodes have."""
    text = "".join(f"{number}\n" for number in truth).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("ILSVRC2012_devkit_t12/data/meta.mat", meta_mat(counts)), (GROUND_TRUTH, text)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def meta_mat(counts: list[int], *, packed: bool = True) -> bytes:
    """meta.mat as MATLAB writes it, by scipy: a second hand than the reader's."""
    from scipy.io import savemat  # type: ignore[import-untyped]

    names = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    synsets = np.empty((len(counts) + 1, 1), dtype=[(name, object) for name in names])
    for row, (wnid, count) in enumerate(zip(WNIDS, counts, strict=True)):
        synsets[row, 0] = (row + 1.0, wnid, f"words of {wnid}", "gloss", 0.0, np.zeros((1, 0)), 0.0, float(count))
    synsets[-1, 0] = (1001.0, "n00001740", "entity", "gloss", 2.0, np.array([[1.0, 2.0]]), 3.0, 0.0)
    file = io.BytesIO()
    savemat(file, {"synsets": synsets}, do_compression=packed)
    return file.getvalue()


def tree_of(folder: Path) -> dict[str, str]:
    """The md5 of each file of train/ and val/."""
    found = {}
    for split in ("train", "val"):
        for place, _, names in os.walk(folder / split):
            for name in names:
                path = Path(place) / name
                found[path.relative_to(folder).as_posix()] = hashlib.md5(path.read_bytes()).hexdigest()
    return found


def cut(path: Path, num_bytes: int) -> None:
    """Take bytes off the end of a file."""
    os.truncate(path, path.stat().st_size - num_bytes)


def link_header(name: str, target: str, kind: bytes) -> bytes:
    """A tar's header of a link or a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info.tobuf() + struct.pack("1024x")
