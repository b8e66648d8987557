# SPDX-License-Identifier: Apache-2.0
"""The text of a values file or a manifest: UTF-8, of a bounded length, out of a regular file or standard input."""

from __future__ import annotations

import io
import stat
import sys
from pathlib import Path
from typing import TextIO
from weakref import WeakKeyDictionary

from mpikit.errors import ValuesError, one_fault

MAX_BYTES = 1 << 20  # a values file is a page of text; more is a mistake, such as a dataset's own file
STDIN = "-"
_STDIN: WeakKeyDictionary[TextIO, bytes] = WeakKeyDictionary()


def read_text(name: str | Path, shown: str, missing: str = "give a file that exists") -> str:
    """Return the text of a file, or of standard input for `-`. `missing` is the fix if the file does not exist.

    Raises ValuesError for a file that is not text.
    """
    try:
        return _decoded(_stdin_bytes() if name == STDIN else _file_bytes(Path(name), shown), shown)
    except FileNotFoundError:
        raise one_fault("", "no such file", missing, shown) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise one_fault("", f"cannot be read: {why}", "give a readable file, or - for standard input", shown) from None


def _file_bytes(path: Path, shown: str) -> bytes:
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        raise one_fault("", "a pipe, which can be read only once", "give a file, or -f - for standard input", shown)
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or a socket"
        raise one_fault("", f"{kind}, not a file", "give a file, or -f - for standard input", shown)
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _stdin_bytes() -> bytes:
    """Return the bytes of standard input, which can be read once; a command may load its values several times."""
    stream = sys.stdin
    if stream is None:  # closed by whoever started us
        return b""
    if stream not in _STDIN:
        wrapped = isinstance(stream, io.TextIOWrapper)
        _STDIN[stream] = stream.buffer.read(MAX_BYTES + 1) if wrapped else stream.read().encode()
    return _STDIN[stream]


def _decoded(content: bytes, shown: str) -> str:
    if len(content) > MAX_BYTES:
        raise one_fault("", f"longer than {MAX_BYTES >> 20} MiB", "give a smaller file", shown)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise one_fault("", "UTF-16 text", "save the file as UTF-8", f"{shown}:1:1")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(error, shown) from None


def _not_utf8(error: UnicodeDecodeError, shown: str) -> ValuesError:
    before = error.object[: error.start]
    line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
    byte = f"0x{error.object[error.start]:02x}"
    return one_fault("", f"not UTF-8 text (byte {byte})", "save the file as UTF-8", f"{shown}:{line}:{column}")
