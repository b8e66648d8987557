# SPDX-License-Identifier: Apache-2.0
"""The images below root/<class>/ as one block of names and an array of labels: kept on disk, and mapped, not loaded.

An index file is one line, then the ends of the names (uint64), the labels (int16 or int32) and the names joined. The
line is `vit-index 3 CRC JSON`. CRC-32 covers the JSON, and the JSON has the CRC-32 of everything else; both are checked
whenever the file is opened. A damaged file is made anew with a warning. The index is stale when a folder's time of
change is not the noted one: files that were added, removed or renamed, and classes likewise, are noticed. Not noticed:
a file that was overwritten under its own name, which changes no index; a folder whose time was set back by hand; and,
on a network mount, whatever the mount's own cache does not show yet.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit.data.folders import Stamps, Walk

logger = logging.getLogger(__name__)

MAGIC = b"vit-index 3 "  # another layout gets another number, and old files are stale
OLD_MAGIC = b'{"format": 1,'
MOST_LINE_BYTES = 2**28  # about 100 bytes a folder
LEAST_KEPT = 10_000  # files: fewer are listed in about 0.05 s, and nothing is written beside such a set
SETTLED_SECONDS = 2  # the coarsest clock of a file system: a folder changed later than that may change unseen
LABELS_16_BITS = 2**15

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class FileIndex:
    """Names relative to the class's folder, joined; where each ends; and its class."""

    class_names: list[str]
    names: Array
    ends: Array
    labels: Array
    stamps: Stamps
    checksum: int
    """CRC-32 of classes, ends, labels and names, computed from them: equal on ranks that have the same list."""

    skipped: dict[str, int]
    """How many files and folders of each kind were left out (vit.data.folders)."""

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, index: int) -> int:
        """Return the class of file number `index`."""
        return int(self.labels[index])

    def file(self, index: int) -> str:
        """class/name of file number `index`, or class/folder/name."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self.ends[index - 1]) if index else 0
        name = os.fsdecode(self.names[start : int(self.ends[index])].tobytes())
        return f"{self.class_names[self.label(index)]}/{name}"


class DamagedIndex(Exception):
    """An index file does not contain what was written."""


def open_index(root: Path, kept_in: tuple[Path, ...]) -> FileIndex:
    """The index of `root` from the first of these files that has it fresh, else made anew and kept in one of them."""
    damaged: list[str] = []
    for path in kept_in:
        try:
            found = read_index(path, root)
        except DamagedIndex as error:
            damaged.append(f"{path}: {error}")
            continue
        if found is not None:
            return found
    if damaged:
        logger.warning("the file index is damaged and is rebuilt (%s)", "; ".join(damaged))
    return _remake(root, kept_in)


def _remake(root: Path, kept_in: tuple[Path, ...]) -> FileIndex:
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
    """Return the index of what is in the folder now. Raises DataError where it cannot be read."""
    walk = Walk(root)
    blocks, lengths, counts = [], [np.zeros(0, np.uint64)], []
    for class_name in walk.class_names:
        names = walk.images(class_name)
        blocks.append(b"".join(names))
        lengths.append(np.fromiter(map(len, names), np.uint64, len(names)))
        counts.append(len(names))
    kind = np.int16 if len(walk.class_names) <= LABELS_16_BITS else np.int32
    labels = np.repeat(np.arange(len(walk.class_names), dtype=kind), counts)
    joined = np.frombuffer(b"".join(blocks), np.uint8)
    ends = np.cumsum(np.concatenate(lengths), dtype=np.uint64)
    return FileIndex(
        class_names=walk.class_names,
        names=joined,
        ends=ends,
        labels=labels,
        stamps=walk.stamps,
        checksum=_checksum(walk.class_names, ends, labels, joined),
        skipped=dict(walk.skipped),
    )


def _checksum(class_names: list[str], *arrays: Array) -> int:
    """CRC-32 of the classes' names and these arrays: 0.02 s for 1.3 million files."""
    found = zlib.crc32(json.dumps(class_names).encode())
    for array in arrays:
        found = zlib.crc32(array.data, found)
    return found


def write_index(path: Path, index: FileIndex) -> None:
    """Write the file whole or not at all; several writers at once each put theirs in place. Raises OSError."""
    parts = (_first_line(index), index.ends.tobytes(), index.labels.tobytes(), index.names.tobytes())
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


def _first_line(index: FileIndex) -> bytes:
    head = {
        "files": len(index),
        "labels": str(index.labels.dtype),
        "names": int(index.names.size),
        "checksum": index.checksum,
        "classes": index.class_names,
        "stamps": index.stamps,
        "skipped": index.skipped,
    }
    text = json.dumps(head).encode()
    text += b" " * (-(len(MAGIC) + 9 + len(text) + 1) % 8)  # the arrays begin at a multiple of 8
    return b"%s%08x %s\n" % (MAGIC, zlib.crc32(text), text)


def read_index(path: Path, root: Path) -> FileIndex | None:
    """Return the index in that file, mapped; None if there is none, or it is stale. Raises DamagedIndex."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            line = file.readline(MOST_LINE_BYTES)
            if line.startswith(OLD_MAGIC):
                return None
            head = _head(line)
            content = np.memmap(file, np.uint8, "r")[len(line) :]
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedIndex("its first line is not an index's") from error
    index = _arrays(head, content)
    return index if is_fresh(root, index.stamps) else None


def _head(line: bytes) -> dict[str, Any]:
    """Return the first line's JSON, each value of its type; what `read_index` catches is raised otherwise."""
    crc, _, text = line.removeprefix(MAGIC).partition(b" ")
    if not line.startswith(MAGIC) or text[-1:] != b"\n" or crc != b"%08x" % zlib.crc32(text[:-1]):
        raise ValueError("checksum")
    head: dict[str, Any] = json.loads(text)
    counts = (head["files"], head["names"], head["checksum"])
    if not all(type(count) is int and count >= 0 for count in counts) or head["labels"] not in ("int16", "int32"):
        raise ValueError("counts")
    classes, stamps = head["classes"], head["stamps"]
    texts = [*classes, *stamps]
    if not all(isinstance(text, str) and b"\0" not in os.fsencode(text) for text in texts):
        raise ValueError("names")
    if classes != sorted(set(classes)) or not {"", *classes} <= stamps.keys():
        raise ValueError("classes")
    if not all(type(number) is int for number in (*stamps.values(), *head["skipped"].values())):
        raise ValueError("stamps")
    return head


def _arrays(head: dict[str, Any], content: Array) -> FileIndex:
    """The index whose arrays lie in `content`. Raises DamagedIndex unless each is whole and within its bounds."""
    count, kind, num_bytes = head["files"], np.dtype(head["labels"]), head["names"]
    labels_at, names_at = 8 * count, (8 + np.dtype(head["labels"]).itemsize) * count
    if content.size != names_at + num_bytes:
        raise DamagedIndex(f"it has {content.size} bytes of names and labels instead of {names_at + num_bytes}")
    ends, labels = content[:labels_at].view(np.uint64), content[labels_at:names_at].view(kind)
    names = content[names_at:]
    if _checksum(head["classes"], ends, labels, names) != head["checksum"]:
        raise DamagedIndex("its checksum is wrong")
    if not _within_bounds(ends, labels, names, len(head["classes"])):
        raise DamagedIndex("its names or labels are out of bounds")
    return FileIndex(
        class_names=head["classes"],
        names=names,
        ends=ends,
        labels=labels,
        stamps=head["stamps"],
        checksum=head["checksum"],
        skipped=head["skipped"],
    )


def _within_bounds(ends: Array, labels: Array, names: Array, num_classes: int) -> bool:
    """Return whether the names follow each other to the end, none empty or with a NUL, and each label is a class."""
    if not len(ends):
        return not len(names)
    rising = bool(ends[0] > 0 and np.all(ends[1:] > ends[:-1]) and int(ends[-1]) == len(names))
    return rising and bool(labels.min() >= 0 and labels.max() < num_classes and names.min() > 0)


def is_fresh(root: Path, stamps: Stamps) -> bool:
    """Return whether every noted folder is as it was noted."""
    try:
        return all((root / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def index_files(root: Path, output_dir: Path) -> tuple[Path, ...]:
    """Return where the index of `root` may be: beside the data set, or else in the output folder, if that is there."""
    whole = root.absolute()
    name = f".{whole.name}-{zlib.crc32(os.fsencode(whole)):08x}.vit-index"
    return whole.parent / f".{whole.name}.vit-index", output_dir / name
