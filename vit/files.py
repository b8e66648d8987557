# SPDX-License-Identifier: Apache-2.0
"""Files that survive a crash: written whole or not at all, and errors of the disk named."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from io import RawIOBase
from pathlib import Path
from typing import TypeVar

from vit.errors import StorageError

CHUNK_BYTES = 2**20
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of some FUSE and network mounts

T = TypeVar("T")


_private: set[int] = set()


@contextlib.contextmanager
def not_inherited(descriptor: int) -> Iterator[None]:
    """Close a descriptor in processes that are forked meanwhile.

    Threads write checkpoints while loaders are forked. On NFS a folder cannot be deleted while a process has one of its
    files open.
    """
    _private.add(descriptor)
    try:
        yield
    finally:
        _private.discard(descriptor)


def _close_private() -> None:
    while _private:
        with contextlib.suppress(OSError):
            os.close(_private.pop())


os.register_at_fork(after_in_child=_close_private)


@contextlib.contextmanager
def named_storage(path: Path) -> Iterator[None]:
    """Turn OSError into StorageError that names the path."""
    try:
        yield
    except OSError as error:
        what = f"cannot be written or read ({error.strerror or error})"
        fix = "free space or repair the mount, then start again: the run resumes"
        raise StorageError(str(path), what, fix) from error


def write_atomic(path: Path, text: str) -> None:
    """Replace a small file: readers see the old or the new text, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """fsync a folder, so that a rename in it lasts; a mount that cannot sync folders is left as it is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def reread(read: Callable[[], T]) -> T:
    """`read()`, which opens its file by name, and once more after ESTALE: NFS says so when the file was replaced."""
    try:
        return read()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return read()


def file_sha256(path: Path) -> str:
    """Hex digest of the file."""
    return reread(lambda: file_checksum(path, "sha256"))


def file_checksum(path: Path, kind: str) -> str:
    """Return the hex digest "sha256", or "md5" as a check against damage, of a file."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file, not_inherited(file.fileno()):
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class HashingFile:
    """A file for torch.save that counts and hashes what is written, and keeps the OSError that torch would hide."""

    def __init__(self, file: RawIOBase, on_progress: Callable[[], None] = lambda: None) -> None:
        """Write to an unbuffered file; calls `on_progress` after each part."""
        self.file, self.on_progress, self.digest, self.num_bytes = file, on_progress, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.num_bytes += memoryview(data).nbytes
        self.on_progress()
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Do nothing: the file has no buffer."""
