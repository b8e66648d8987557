# SPDX-License-Identifier: Apache-2.0
"""Nested maps and lists, as read from YAML and JSON: keys, paths, access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

Object = Mapping[str, Any]


def is_int(value: Any) -> TypeGuard[int]:
    """Whether this is a whole number, and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_map(value: Any) -> dict[Any, Any]:
    """Return the value if it is a map, else an empty one."""
    return value if isinstance(value, dict) else {}


def numbered(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """Return the maps of a list with their places."""
    return [pair for pair in enumerate(value) if isinstance(pair[1], dict)] if isinstance(value, list) else []


def walk(value: Any, key: str) -> Iterator[tuple[str, Object]]:
    """Yield every map in a tree, with its key."""
    if isinstance(value, dict):
        yield key, value
        for name, item in value.items():
            yield from walk(item, f"{key}.{name}")
    for number, item in enumerate(value if isinstance(value, list) else ()):
        yield from walk(item, f"{key}[{number}]")


Key = tuple[str | int, ...]


def dotted(key: Key) -> str:
    """Return a key as the user writes it: `launcher.tolerations[0].key`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def at(value: Any, *path: str | int) -> Any:
    """Return a nested value; None if any part of the way is missing."""
    for part in path:
        if isinstance(part, int):
            value = value[part] if isinstance(value, list) and len(value) > part else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
