# SPDX-License-Identifier: Apache-2.0
"""Read the files of a run's folder: bounded, regular files only; a fault becomes a reason to show."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_BYTES = 64 << 20  # of a JSON file; metrics.jsonl has about 500 bytes a line
MOST_JPEG_BYTES = 128 << 10

Row = dict[str, Any]


class Unreadable(Exception):
    """A file that is absent, or not what it should be; the text says which."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return a file's content. Raises Unreadable; a pipe or a device is never waited for, and no link is followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unreadable(f"{_shown(path)} does not exist") from None
    except (OSError, ValueError):
        raise Unreadable(f"{_shown(path)} cannot be opened") from None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable(f"{_shown(path)} is not a regular file")
        if facts.st_size > most:
            raise Unreadable(f"{_shown(path)} has more than {most >> 10} KiB")
        try:
            return file.read(most)
        except OSError:
            raise Unreadable(f"{_shown(path)} cannot be read") from None


def read_object(path: Path) -> Row:
    """Return the JSON object of a file. Raises Unreadable."""
    found = _parsed(read_bytes(path))
    if not isinstance(found, dict):
        raise Unreadable(f"{_shown(path)} is not a JSON object")
    return found


def read_rows(path: Path) -> list[Row]:
    """Return the JSON objects of a file, one a line; damaged lines are left out. Raises Unreadable."""
    found = (_parsed(line) for line in read_bytes(path).splitlines())
    return [row for row in found if isinstance(row, dict)]


def read_word(path: Path) -> str:
    """Return the one line of a small file; empty if there is none."""
    try:
        return read_bytes(path, 4096).decode("utf-8", "replace").strip()
    except Unreadable:
        return ""


def read_jpeg(folder: Path, name: str) -> bytes:
    """Return a JPEG file directly in a folder. Raises Unreadable."""
    if not name or Path(name).name != name or name in (".", ".."):
        raise Unreadable("the name of a picture is not a file name")
    content = read_bytes(folder / name, MOST_JPEG_BYTES)
    if not content.startswith(b"\xff\xd8\xff"):
        raise Unreadable(f"{name} is not a JPEG")
    return content


def _shown(path: Path) -> str:
    """Return evaluation/NAME for such a file, else its name."""
    return f"{path.parent.name}/{path.name}" if path.parent.name in ("evaluation", "logs") else path.name


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def number(value: object) -> float | None:
    """Return a finite number of JSON; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1 << 63 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def whole(value: object) -> int | None:
    """Return a whole number of JSON, 0 or more; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def numbers(value: object) -> dict[str, float]:
    """Return the numbers of a JSON object by their keys."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(key): found for key, one in pairs if (found := number(one)) is not None}


def objects(value: object) -> Iterable[Row]:
    """Return the objects of a JSON list."""
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def text(value: object) -> str:
    """Return a text of JSON; empty for anything else."""
    return value if isinstance(value, str) else ""
