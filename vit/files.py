# SPDX-License-Identifier: Apache-2.0
"""Files that survive a crash: written whole or not at all, and errors of the disk named."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from vit.errors import StorageError
from vit.packages import optional_package

CHUNK_BYTES = 2**20
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of some FUSE and network mounts

T = TypeVar("T")


@contextlib.contextmanager
def named_storage(path: Path) -> Iterator[None]:
    """Turn OSError into StorageError that names the path."""
    try:
        yield
    except OSError as error:
        what = f"cannot be written or read ({error.strerror or error})"
        fix = "free space or mend the mount, then start again: the run resumes"
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
    return reread(lambda: _sha256(path))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class HashingFile:
    """A file for torch.save that counts and hashes what is written, and keeps the OSError that torch would hide."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.num_bytes = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.num_bytes += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Flush the file below."""
        self.file.flush()


CRC32C_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected; RFC 3720, section 12.1


LANES = 4096  # pieces of a block that numpy goes through side by side


LANE_BYTES = 256


BLOCK_BYTES = LANES * LANE_BYTES


CHUNK_BYTES = 2**20


class Checksum(Protocol):
    """What a server or an author states of a file."""

    name: str

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        ...

    def hexdigest(self) -> str:
        """The checksum of all bytes so far, in lower-case hex."""
        ...


class Md5:
    """MD5 as a check against damage, not against malice."""

    name = "MD5"

    def __init__(self) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._digest.update(data)

    def hexdigest(self) -> str:
        """32 hex digits."""
        return self._digest.hexdigest()


class Sha256:
    """SHA-256, which holds against malice too."""

    name = "SHA-256"

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._digest.update(data)

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._digest.hexdigest()


class Crc32c:
    """CRC32C, the checksum that Google Cloud Storage states of every object."""

    name = "CRC32C"

    def __init__(self) -> None:
        self._crc = 0xFFFFFFFF
        self._left = b""
        self._lanes = _Lanes() if optional_package("numpy", needs=("uint32",)) else None

    def update(self, data: bytes) -> None:
        """Take in the next bytes; whole blocks by numpy, where it is."""
        if self._lanes is None:
            self._crc = _advance(self._crc, data)
            return
        data = self._left + data
        end = len(data) // BLOCK_BYTES * BLOCK_BYTES
        for start in range(0, end, BLOCK_BYTES):
            self._crc = self._lanes.advance(self._crc, data[start : start + BLOCK_BYTES])
        self._left = data[end:]

    def hexdigest(self) -> str:
        """8 hex digits."""
        return f"{_advance(self._crc, self._left) ^ 0xFFFFFFFF:08x}"


def _table() -> list[int]:
    """What eight steps of the shift register make of each byte."""
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (CRC32C_POLYNOMIAL if byte & 1 else 0)
        rows.append(byte)
    return rows


TABLE = _table()


def _advance(crc: int, data: bytes) -> int:
    """The register after more bytes, one at a time."""
    table = TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


class _Lanes:
    """A block cut into lanes whose registers run side by side, then are joined two by two.

    The register is linear over bits: that of A followed by B is A's, moved on by len(B) zero bytes, xor B's from zero.
    """

    def __init__(self) -> None:
        import numpy as np

        self.np: Any = np
        self.table = np.array(TABLE, np.uint32)
        self.moves = []  # by 1, 2, 4, ... lanes
        move = _moved_by(LANE_BYTES)
        for _ in range(LANES.bit_length() - 1):
            self.moves.append(np.array(_by_bytes(move), np.uint32))
            move = [_apply(move, column) for column in move]
        self.whole = move

    def advance(self, crc: int, block: bytes) -> int:
        """The register after a block of BLOCK_BYTES."""
        np = self.np
        columns = np.ascontiguousarray(np.frombuffer(block, np.uint8).reshape(LANES, LANE_BYTES).T)
        registers = np.zeros(LANES, np.uint32)
        for column in columns:
            registers = self.table[(registers ^ column) & 0xFF] ^ registers >> 8
        for move in self.moves:
            first, second = registers[0::2], registers[1::2]
            moved = move[0][first & 0xFF] ^ move[1][first >> 8 & 0xFF] ^ move[2][first >> 16 & 0xFF]
            registers = moved ^ move[3][first >> 24] ^ second
        return _apply(self.whole, crc) ^ int(registers[0])


def _moved_by(num_bytes: int) -> list[int]:
    """Each of the 32 bits of a register after that many zero bytes."""
    zeros = bytes(num_bytes)
    return [_advance(1 << bit, zeros) for bit in range(32)]


def _apply(move: Sequence[int], crc: int) -> int:
    """A whole register moved: the xor of its bits' own ways."""
    moved = 0
    for bit, image in enumerate(move):
        if crc >> bit & 1:
            moved ^= image
    return moved


def _by_bytes(move: Sequence[int]) -> list[list[int]]:
    """The same as four tables, one for each byte of the register."""
    return [[_apply(move, byte << 8 * place) for byte in range(256)] for place in range(4)]


KINDS: dict[str, type[Md5] | type[Crc32c] | type[Sha256]] = {"md5": Md5, "crc32c": Crc32c, "sha256": Sha256}


def file_checksum(path: Path, kind: str) -> str:
    """The checksum "sha256", "md5" or "crc32c" of a file."""
    checksum = KINDS[kind]()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum.update(chunk)
    return checksum.hexdigest()
