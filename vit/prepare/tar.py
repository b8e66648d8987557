# SPDX-License-Identifier: Apache-2.0
"""Members of a tar, or of a tar within a tar, by place and size; only regular files are unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vit.errors import DataError

BLOCK_BYTES = 512  # of a tar; its end is at least one of zeros


@dataclass(frozen=True, slots=True)
class Member:
    """One file within an archive: its name, and where its bytes lie in the outermost file."""

    name: str
    start: int
    size: int


class Window(io.RawIOBase):
    """A part of an open file as a file of its own; several may be read at once."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self.descriptor, self.start, self.size, self.place = descriptor, start, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; io's rules."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = base + offset
        return self.place

    def tell(self) -> int:
        """Return the place within the part."""
        return self.place

    def readinto(self, buffer: object) -> int:
        """Bytes from the place on; 0 at the end of the part."""
        view = memoryview(buffer)  # type: ignore[arg-type]  # whatever io hands over
        wanted = max(0, min(len(view), self.size - self.place))
        found = os.pread(self.descriptor, wanted, self.start + self.place)
        view[: len(found)] = found
        self.place += len(found)
        return len(found)


def members(path: Path, descriptor: int, within: Member | None = None) -> Iterator[Member]:
    """Yield each file of an uncompressed tar, or of the tar that is member `within` of it, in order.

    Raises DataError for anything but plain files, for names given twice, and for a tar that is cut off or damaged.
    """
    start, size = (within.start, within.size) if within else (0, os.fstat(descriptor).st_size)
    where = f"{path} ({within.name})" if within else str(path)
    seen: set[str] = set()
    end = 0
    try:
        with tarfile.open(fileobj=Window(descriptor, start, size), mode="r:", bufsize=BLOCK_BYTES) as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                end = info.offset_data + -(-info.size // BLOCK_BYTES) * BLOCK_BYTES
                if info.isdir():
                    continue
                _check_plain(where, info, seen, size)
                yield Member(info.name, start + info.offset_data, info.size)
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise DataError(where, f"is cut off, damaged or not a tar ({error})", "copy or download it again") from error
    if within and end == size:  # the outer header gives its size, so nothing can be missing
        return
    if os.pread(descriptor, BLOCK_BYTES, start + end) != bytes(BLOCK_BYTES) or end + BLOCK_BYTES > size:
        raise DataError(where, f"is cut off or damaged at byte {end}: no end of a tar is there", "copy it again")


def _check_plain(where: str, info: tarfile.TarInfo, seen: set[str], size: int) -> None:
    """Raise DataError for a member that must not be unpacked."""
    parts = info.name.split("/")
    if not info.isreg() or info.issparse():
        what = f"contains {info.name!r}, which is not a regular file"
    elif info.name.startswith("/") or ".." in parts or "\0" in info.name:
        what = f"contains {info.name!r}, which leads out of the folder"
    elif info.name in seen:
        what = f"contains {info.name!r} twice"
    elif info.offset_data + info.size > size:
        what = f"is cut off within {info.name!r}"
    else:
        seen.add(info.name)
        return
    raise DataError(where, what, "take the archive as its authors publish it")
