"""The images below root/<class>/ as one block of names and an array of labels: kept on disk, and mapped, not loaded.

A file of the index is a line of JSON, then the ends of the names (uint64), the labels (int16 or int32) and the names
joined. It is stale when a folder's time of change is not the noted one: files that were added, removed or renamed, and
classes likewise, are noticed. Not noticed: a file that was overwritten under its own name, which changes no index; a
folder whose time was set back by hand; and, on a network mount, whatever the mount's own cache does not show yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit.errors import DataError

EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
)  # torchvision's, and gif
ENDINGS = tuple(extension.encode() for extension in EXTENSIONS)
FORMAT = 1  # another layout gets another number, and old files are stale
LEAST_KEPT = 10_000  # files: fewer are listed in about 0.05 s, and nothing is written beside such a set
SETTLED_SECONDS = 2  # the coarsest clock of a file system: a folder changed later than that may change unseen
LABELS_16_BITS = 2**15

Array = np.ndarray[Any, Any]
Stamps = dict[str, int]
"""Folder, relative to the root ("" is the root itself), and the nanosecond of its last change."""


@dataclass(frozen=True, kw_only=True)
class FileIndex:
    """Names relative to the class's folder, joined; where each ends; and its class."""

    class_names: list[str]
    names: Array
    ends: Array
    labels: Array
    stamps: Stamps
    fingerprint: int
    """CRC-32 of the names and the labels."""

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, index: int) -> int:
        """The class of file number `index`."""
        return int(self.labels[index])

    def file(self, index: int) -> str:
        """class/name of file number `index`, or class/folder/name."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self.ends[index - 1]) if index else 0
        name = os.fsdecode(self.names[start : int(self.ends[index])].tobytes())
        return f"{self.class_names[self.label(index)]}/{name}"


def open_index(root: Path, kept_in: tuple[Path, ...]) -> FileIndex:
    """The index of `root` from the first of these files that has it fresh, else made anew and kept in one of them."""
    for path in kept_in:
        found = read_index(path, root)
        if found is not None:
            return found
    started = time.time_ns()
    index = make_index(root)
    settled = max(index.stamps.values()) + SETTLED_SECONDS * 10**9 < started
    if len(index) >= LEAST_KEPT and settled:
        for path in kept_in:
            with contextlib.suppress(OSError):  # read-only, full or absent: the next place, or none
                write_index(path, index)
                break
    return index


def make_index(root: Path) -> FileIndex:
    """The index of what is in the folder now. Raises DataError where it cannot be read."""
    stamps = {"": _changed(root)}
    class_names = sorted(entry.name for entry in _scan(root) if entry.is_dir())
    blocks, lengths, counts = [], [np.zeros(0, np.uint64)], []
    for class_name in class_names:
        names = _image_names(root / class_name, class_name, b"", stamps)
        blocks.append(b"".join(names))
        lengths.append(np.fromiter(map(len, names), np.uint64, len(names)))
        counts.append(len(names))
    kind = np.int16 if len(class_names) <= LABELS_16_BITS else np.int32
    labels = np.repeat(np.arange(len(class_names), dtype=kind), counts)
    joined = b"".join(blocks)
    return FileIndex(
        class_names=class_names,
        names=np.frombuffer(joined, np.uint8),
        ends=np.cumsum(np.concatenate(lengths), dtype=np.uint64),
        labels=labels,
        stamps=stamps,
        fingerprint=zlib.crc32(labels.tobytes(), zlib.crc32(joined)),
    )


def _image_names(folder: Path, where: str, prefix: bytes, stamps: Stamps) -> list[bytes]:
    """Paths of the image files below a folder: its own sorted by name, then those of each sub-folder."""
    stamps[where] = _changed(folder)
    names = sorted(_names(folder))
    found = [prefix + name for name in names if name.lower().endswith(ENDINGS)]
    if len(found) == len(names):
        return found
    for name in (os.fsdecode(name) for name in names if not name.lower().endswith(ENDINGS)):
        if (folder / name).is_dir():
            below = prefix + os.fsencode(name) + b"/"
            found += _image_names(folder / name, f"{where}/{name}", below, stamps)
    return found


def write_index(path: Path, index: FileIndex) -> None:
    """Write the file whole or not at all; several writers at once each put theirs in place. Raises OSError."""
    head = {
        "format": FORMAT,
        "files": len(index),
        "labels": str(index.labels.dtype),
        "names": int(index.names.size),
        "crc": index.fingerprint,
        "classes": index.class_names,
        "stamps": index.stamps,
    }
    line = json.dumps(head).encode()
    line += b" " * (-(len(line) + 1) % 8) + b"\n"  # the arrays begin at a multiple of 8
    parts = (line, index.ends.tobytes(), index.labels.tobytes(), index.names.tobytes())
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
        try:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)  # others may read it, as the images
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def read_index(path: Path, root: Path) -> FileIndex | None:
    """The index in that file, mapped; None where there is none, or it is not whole, or stale."""
    try:
        with path.open("rb") as file:
            line = file.readline()
            head = json.loads(line)
        if head["format"] != FORMAT or not is_fresh(root, head["stamps"]):
            return None
        content = np.memmap(path, np.uint8, "r", offset=len(line))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    count, kind = head["files"], np.dtype(head["labels"])
    labels_at, names_at = 8 * count, (8 + kind.itemsize) * count
    if content.size != names_at + head["names"]:
        return None
    return FileIndex(
        class_names=head["classes"],
        names=content[names_at:],
        ends=content[:labels_at].view(np.uint64),
        labels=content[labels_at:names_at].view(kind),
        stamps=head["stamps"],
        fingerprint=head["crc"],
    )


def is_fresh(root: Path, stamps: Stamps) -> bool:
    """Whether every noted folder is as it was noted."""
    try:
        return all((root / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    except OSError:
        return False


def index_files(root: Path, output_dir: Path) -> tuple[Path, ...]:
    """Where the index of `root` may be: beside the data set, or else in the output folder, if that is there."""
    whole = root.absolute()
    name = f".{whole.name}-{zlib.crc32(os.fsencode(whole)):08x}.vit-index"
    return whole.parent / f".{whole.name}.vit-index", output_dir / name


def _changed(folder: Path) -> int:
    with _named(folder):
        return folder.stat().st_mtime_ns


def _names(folder: Path) -> list[bytes]:
    """Names as the disk has them: neither a Path, nor an entry, nor even a decoded text for each of a million files."""
    with _named(folder):
        return os.listdir(os.fsencode(folder))  # noqa: PTH208


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with _named(folder), os.scandir(folder) as entries:
        return list(entries)


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        expected = "expected --data_path to hold train/<class>/<image> and val/<class>/<image>"
        raise DataError(str(folder), what, expected) from error
