# SPDX-License-Identifier: Apache-2.0
"""Check that an archive is whole, within a limit: a bomb is refused by its declared sizes, or while it unpacks."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path

from vit.errors import DataError
from vit.files import CHUNK_BYTES

MOST_MEMBERS = 1_000_000
NPY_MAGIC = b"\x93NUMPY"
LIMIT_FLAG = "--max_unpacked_mib"


def check_zip(path: Path, most_bytes: int) -> list[str]:
    """Names of the members, each read to its end and its CRC. Raises DataError.

    zipfile gives no more bytes of a member than it declares, so the declared sizes are the limit of the real ones.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_declared(path, [info.file_size for info in infos], most_bytes)
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise damaged(path, f"is not a complete archive ({error})") from error
    if broken:
        raise damaged(path, f"is damaged within ({broken})")
    return [info.filename for info in infos]


def not_arrays(path: Path, names: list[str]) -> list[str]:
    """Members of a zip that are not numpy arrays."""
    with zipfile.ZipFile(path) as archive:
        return [name for name in names if archive.open(name).read(len(NPY_MAGIC)) != NPY_MAGIC]


def check_gzip(path: Path, most_bytes: int) -> int:
    """Bytes in a gzip file, unpacked to its end and checked, without keeping them. Raises DataError."""
    num_bytes = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                num_bytes += len(chunk)
                if num_bytes > most_bytes:
                    raise _too_large(path, f"more than {most_bytes >> 20} MiB")
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"is not a complete gzip file ({error})") from error
    return num_bytes


def check_tar(path: Path, most_bytes: int) -> int:
    """Number of members of a tar; the sizes are added up before each member is read. Raises DataError."""
    total = num_members = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                total, num_members = total + info.size, num_members + 1
                _check_declared(path, [total], most_bytes)
                if num_members > MOST_MEMBERS:
                    raise _too_large(path, f"more than {MOST_MEMBERS} members")
    except (tarfile.TarError, EOFError, zlib.error, OSError, OverflowError) as error:
        raise damaged(path, f"is not a complete tar ({error})") from error
    return num_members


def damaged(path: Path, what: str) -> DataError:
    """Return the error of a file that arrived complete and is not valid."""
    return DataError(str(path), what, "start again; if it fails again, the file on the server is damaged")


def _check_declared(path: Path, sizes: list[int], most_bytes: int) -> None:
    if len(sizes) > MOST_MEMBERS:
        raise _too_large(path, f"{len(sizes)} members")
    if sum(sizes) > most_bytes:
        raise _too_large(path, f"{sum(sizes) >> 20} MiB")


def _too_large(path: Path, what: str) -> DataError:
    return DataError(
        str(path), f"would unpack to {what}", f"look at where it comes from; {LIMIT_FLAG} raises the limit"
    )
