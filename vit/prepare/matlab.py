# SPDX-License-Identifier: Apache-2.0
"""MATLAB's file format, level 5, as far as ImageNet's devkit needs it: structs, texts and numbers.

Source: "MAT-File Format", The MathWorks; every element is a type, a size, and bytes padded to 8.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from vit.data.bounded import inflate

HEADER_BYTES = 128
MOST_BYTES = 2**26  # of a variable when unpacked; the devkit's has less than 1 MiB
MATRIX, COMPRESSED = 14, 15
FIRST_NUMBER = 6  # classes from 6 on: double, single, and integers
TYPES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


@dataclass(slots=True)
class _Reader:
    """A place in the bytes of a file."""

    data: bytes
    order: str
    """"<" or ">"."""
    place: int = 0

    def element(self) -> tuple[int, bytes]:
        """Return the next element's type and bytes."""
        kind, size = struct.unpack_from(f"{self.order}II", self.data, self.place)
        if kind >> 16:  # up to four bytes stand in the place of the size
            start, kind, size = self.place + 4, kind & 0xFFFF, kind >> 16
            self.place += 8
        else:
            start = self.place + 8
            self.place = start + size + (0 if kind == COMPRESSED else -size % 8)
        found = self.data[start : start + size]
        if len(found) < size:
            raise ValueError(f"it ends within an element of {size} bytes")
        return kind, found

    def within(self, data: bytes) -> _Reader:
        """Return a reader of an element's own bytes."""
        return _Reader(data, self.order)


def read_mat(data: bytes) -> dict[str, Any]:
    """Return the variables of a file by name: a struct array as a list of dicts, a text as str, numbers as a list.

    Raises ValueError.
    """
    orders = {b"IM": "<", b"MI": ">"}
    if data[126:128] not in orders:
        raise ValueError("it is not a MATLAB file of level 5")
    reader = _Reader(data, orders[data[126:128]], HEADER_BYTES)
    variables = {}
    try:
        while reader.place < len(data):
            kind, content = reader.element()
            if kind == COMPRESSED:
                kind, content = reader.within(inflate(content, MOST_BYTES)).element()
            if kind == MATRIX:
                name, value = _matrix(reader.within(content))
                variables[name] = value
    except RecursionError as error:
        raise ValueError("its arrays nest too deep") from error
    except (struct.error, zlib.error, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"it is not a complete MATLAB file of level 5 ({error})") from error
    return variables


def _matrix(reader: _Reader) -> tuple[str, Any]:
    """Name and value of an array."""
    if not reader.data:
        return "", []
    flags = struct.unpack(f"{reader.order}II", reader.element()[1])
    kind = flags[0] & 0xFF
    shape = _numbers(reader, *reader.element())
    name = reader.element()[1].decode("latin-1")
    count = 1
    for length in shape:
        count *= int(length)
    match kind:
        case 2:
            return name, _structs(reader, count)
        case 4:
            return name, _text(reader, *reader.element())
        case number if number >= FIRST_NUMBER:
            return name, _numbers(reader, *reader.element())
    raise ValueError(f"it contains {name or 'an array'} of a class that is not read here ({kind})")


def _structs(reader: _Reader, count: int) -> list[dict[str, Any]]:
    length = int(_numbers(reader, *reader.element())[0])
    packed = reader.element()[1]
    if length < 1 or not 0 <= count <= len(reader.data):
        raise ValueError(f"it says {count} structs with names of {length} bytes")
    names = [packed[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(packed), length)]
    if not names:
        return []
    return [{name: _matrix(reader.within(reader.element()[1]))[1] for name in names} for _ in range(count)]


def _text(reader: _Reader, kind: int, content: bytes) -> str:
    encoding = ENCODINGS[kind]
    if encoding.startswith(("utf-16", "utf-32")):
        encoding += "-le" if reader.order == "<" else "-be"
    return content.decode(encoding)


def _numbers(reader: _Reader, kind: int, content: bytes) -> list[Any]:
    letter = TYPES[kind]
    return list(struct.unpack(f"{reader.order}{len(content) // struct.calcsize(letter)}{letter}", content))
