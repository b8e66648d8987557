# SPDX-License-Identifier: Apache-2.0
"""Which files below root/<class>/ are images: one rule for training, evaluation and vit.prepare.

* Hidden names (.x, ._x.png) and what systems leave behind (__MACOSX, lost+found) are skipped, folders and files alike.
* A file with an image ending is an image; other endings are skipped. A folder is a folder, whatever its ending. Pipes,
  sockets and devices are skipped: reading one could wait for ever.
* Links to files are taken as files, without a look at each: one that leads nowhere is reported when it is read.
* Each folder counts once, by device and inode: a link to one that was visited or that contains the root is skipped.
  Class folders come first, and two classes that are the same folder are an error.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from vit.errors import DataError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # torchvision's
    *(".gif", ".jfif", ".jpe"),  # .jfif and .jpe are JPEG: browsers and Windows write them
)
ENDINGS = tuple(extension.encode() for extension in EXTENSIONS)
LEFT_BEHIND = (b"__MACOSX", b"lost+found", b"@eaDir", b"$RECYCLE.BIN", b"System Volume Information", b"__pycache__")
HIDDEN, AGAIN, SPECIAL, OUTSIDE = "hidden", "folders linked again", "special files", "files outside the classes"
KINDS = (HIDDEN, AGAIN, SPECIAL, OUTSIDE)
PLAIN_ENDING = re.compile(r"\.[a-z0-9]{1,8}")
OTHER = "others"
NAMED_ENDINGS = 5

Stamps = dict[str, int]
"""Folder, relative to the root ("" is the root itself), and the nanosecond of its last change."""


class Walk:
    """One look at a tree. Raises DataError for what cannot be read, or is one folder under two classes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stamps: Stamps = {}
        self.skipped: Counter[str] = Counter()
        """How many of each of KINDS and of each unknown ending."""
        self.visited: dict[tuple[int, int], str] = {}
        with _named(root):
            for above in root.resolve().parents:
                found = above.stat()
                self.visited[found.st_dev, found.st_ino] = str(above)
        self._visit("")
        self.class_names = self._find_classes()

    def images(self, class_name: str) -> list[bytes]:
        """Paths of the class's images, relative to its folder: its own by name, then those of each sub-folder."""
        return self._below(class_name, b"")

    def _find_classes(self) -> list[str]:
        entries = self._entries("")
        for entry in entries:
            if not _is_folder(entry) and not _is_hidden(entry.name):
                self.skipped[OUTSIDE] += 1
        names = sorted(os.fsdecode(entry.name) for entry in entries if _is_folder(entry) and self._is_seen(entry.name))
        for name in names:
            other = self._visit(name)
            if other is not None:
                what = f"is the same folder as {other or self.root}: its images would have two labels"
                raise DataError(str(self.root / name), what, "remove one of the two")
        return names

    def _below(self, where: str, prefix: bytes) -> list[bytes]:
        images, folders = [], []
        for entry in self._entries(where):
            if not self._is_seen(entry.name):
                continue
            is_image = entry.name.lower().endswith(ENDINGS)
            if entry.is_dir(follow_symlinks=False) or (not is_image and _is_folder(entry)):
                folders.append(entry.name)
            elif not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                self.skipped[SPECIAL] += 1
            elif is_image:
                images.append(entry.name)
            else:
                self.skipped[_ending(entry.name)] += 1
        found = [prefix + name for name in sorted(images)]
        for name in sorted(folders):
            below = f"{where}/{os.fsdecode(name)}"
            if self._visit(below) is None:
                found += self._below(below, prefix + name + b"/")
            else:
                self.skipped[AGAIN] += 1
        return found

    def _visit(self, where: str) -> str | None:
        """Note the folder and its time; returns what it was visited as before, None if it was not."""
        with _named(self.root / where):
            found = (self.root / where).stat()
        key = found.st_dev, found.st_ino
        if key in self.visited:
            return self.visited[key]
        self.visited[key], self.stamps[where] = where, found.st_mtime_ns
        return None

    def _is_seen(self, name: bytes) -> bool:
        hidden = _is_hidden(name)
        self.skipped[HIDDEN] += hidden
        return not hidden

    def _entries(self, where: str) -> list[os.DirEntry[bytes]]:
        """Names as the disk has them, with their kind: no further call for each of a million files."""
        with _named(self.root / where), os.scandir(os.fsencode(self.root / where)) as entries:
            return list(entries)


def skipped_text(skipped: Mapping[str, int]) -> str:
    """ "; skipped: 3 hidden, 2 unknown endings (.txt 2)"; empty where nothing was skipped."""
    parts = [f"{skipped[kind]:,} {kind}" for kind in KINDS if skipped.get(kind)]
    endings = sorted((-count, name) for name, count in skipped.items() if name not in KINDS and count)
    if endings:
        named = ", ".join(f"{name} {-count:,}" for count, name in endings[:NAMED_ENDINGS])
        more = ", ..." if len(endings) > NAMED_ENDINGS else ""
        parts.append(f"{-sum(count for count, _ in endings):,} unknown endings ({named}{more})")
    return f"; skipped: {', '.join(parts)}" if parts else ""


def _is_hidden(name: bytes) -> bool:
    return name.startswith(b".") or name in LEFT_BEHIND


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Also through a link; one that leads nowhere or to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _ending(name: bytes) -> str:
    ending = Path(os.fsdecode(name)).suffix.lower()
    return ending if PLAIN_ENDING.fullmatch(ending) else OTHER


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        expected = "expected --data_path to contain train/<class>/<image> and val/<class>/<image>"
        raise DataError(str(folder), what, expected) from error
