# SPDX-License-Identifier: Apache-2.0
"""Packed data unpacked up to a limit: a few KiB can stand for as many GiB. Needs no torch. All raise ValueError."""

from __future__ import annotations

import gzip
import io
import pickle
import sys
import zlib
from pathlib import Path
from typing import IO, Any

CHUNK_BYTES = 2**20


def read_at_most(file: IO[bytes], limit: int, name: str) -> bytes:
    """Everything that is left of a file."""
    content = io.BytesIO()
    while chunk := file.read(CHUNK_BYTES):
        if content.tell() + len(chunk) > limit:
            raise ValueError(f"{name} unpacks to more than {limit >> 20} MiB")
        content.write(chunk)
    return content.getvalue()


def gunzip(path: Path, limit: int) -> bytes:
    """Return the content of a .gz file."""
    with gzip.open(path) as file:
        return read_at_most(file, limit, path.name)  # type: ignore[arg-type]  # GzipFile reads bytes


def inflate(data: bytes, limit: int) -> bytes:
    """Return what zlib.decompress gives. Raises zlib.error too."""
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(data, limit + 1)
    if len(content) > limit:
        raise ValueError(f"a part of it unpacks to more than {limit >> 20} MiB")
    if not unpacking.eof:
        raise ValueError("a packed part of it is cut off")
    return content


def unpickle(unpickler: pickle.Unpickler) -> Any:
    """Return what the unpickler loads. A pickle is a program: damage and malice can make it raise nearly anything."""
    try:
        return unpickler.load()
    except MemoryError as error:
        raise ValueError("it needs more memory than is available") from error
    except RecursionError as error:
        raise ValueError(f"it nests deeper than {sys.getrecursionlimit()} levels") from error
    except Exception as error:
        raise ValueError(str(error) or "it is not a complete pickle") from error
