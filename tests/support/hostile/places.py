# SPDX-License-Identifier: Apache-2.0
"""Every place of a values file where a text may stand, out of the model's own JSON Schema."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from mpikit.config.json_schema import values_schema

Path = tuple[str | int, ...]
KEY = "k"
"""Stands in a path for a key of a free map; cases put hostile texts in its place."""


@functools.cache
def places() -> tuple[Path, ...]:
    """The path of each value that is no map and no list with fields of its own; maps that take anything end in KEY."""
    schema = values_schema()
    return tuple(_leaves(schema, schema["definitions"], ()))


def _leaves(schema: dict[str, Any], definitions: dict[str, Any], path: Path) -> Iterator[Path]:
    if "$ref" in schema:
        yield from _leaves(definitions[schema["$ref"].rpartition("/")[2]], definitions, path)
        return
    choices = [item for word in ("anyOf", "oneOf", "allOf") for item in schema.get(word, ())]
    if choices:
        yield from dict.fromkeys(leaf for item in choices for leaf in _leaves(item, definitions, path))
    elif "properties" in schema:
        for name, item in schema["properties"].items():
            yield from _leaves(item, definitions, (*path, name))
    elif schema.get("type") == "object":
        more = schema.get("additionalProperties")
        yield from _leaves(more if isinstance(more, dict) else {}, definitions, (*path, KEY))
    elif schema.get("type") == "array":
        yield from _leaves(schema.get("items", {}), definitions, (*path, 0))
    elif schema.get("type") != "null":
        yield path


def nested(path: Path, value: Any) -> Any:
    """The value within the maps and lists that its path names."""
    for part in reversed(path):
        value = [value] if isinstance(part, int) else {part: value}
    return value


def at(data: Any, path: Path) -> Any:
    """What stands at a path; KeyError or IndexError if there is nothing."""
    for part in path:
        data = data[part]
    return data
