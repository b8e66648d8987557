# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own schema of a version, offline: types, unknown fields, what is required, duplicate keys of lists.

The schemas come with the package kubernetes-validate. Its validator stops at the first fault and knows no nearest
field, so the walk over them is our own.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.diagnostics import Diagnostic, Found, fault
from mpikit.errors import KitError, one_fault
from mpikit.text.nested import Key, dotted

Schema = Mapping[str, Any]
_PREFIX = "io.k8s.api.core.v1."
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int,),  # of a quantity; an MPIJob's CRD takes no 1.5 that is not in quotes
}
_WORDS = {"object": "a map", "array": "a list", "string": "a text in quotes", "boolean": "true or false"}
USED_TWICE = "is used twice"
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")  # the CRD's pattern
PLACE_DEPTH = 9  # down to the fields of a container's resources
_BITS = {"int32": 31, "int64": 63}  # the integers of Go, which cannot hold more


@functools.cache
def versions() -> tuple[str, ...]:
    """The Kubernetes versions whose schemas are here, oldest first, such as 1.25."""
    return tuple(dict.fromkeys(version.rpartition(".")[0] for version in _package().all_versions()))


def _package() -> Any:
    try:
        import kubernetes_validate.utils
    except ModuleNotFoundError as missing:
        raise KitError(f"Python has no {missing.name}", "python -m pip install kubernetes-validate") from missing
    return kubernetes_validate.utils


@functools.cache
def _definitions(version: str) -> dict[str, Schema]:
    if version not in versions():
        known = f"{versions()[0]} to {versions()[-1]}"
        raise one_fault("--kubernetes-version", f"{version!r} is not known", f"known: {known}")
    name = f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json"
    found: dict[str, Schema] = _package().schema_contents(name, version)["$defs"]
    return found


def reference(kind: str) -> Schema:
    """The schema of a kind of core/v1, such as PodTemplateSpec, to be put into another schema."""
    return {"$ref": f"#/$defs/{_PREFIX}{kind}"}


def metadata_reference() -> Schema:
    """The schema of an object's metadata."""
    return {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


def has_kind(kind: str, version: str) -> bool:
    """Whether core/v1 has this kind."""
    return _PREFIX + kind in _definitions(version)


def schema_faults(value: Any, schema: Schema, version: str, key: Key = ()) -> Found:
    """What of a value its schema refuses, each with the nearest field or the type that is wanted."""
    schema = _resolved(schema, version)
    if value is None:  # the server's reader takes null for a field that is not there
        return
    wanted = _types(schema)
    if wanted and not any(_is(value, name) for name in wanted):
        yield _wrong_type(value, wanted, key)
    elif isinstance(value, dict):
        yield from _map_faults(value, schema, version, key)
    elif isinstance(value, list):
        yield from _list_faults(value, schema, version, key)
    elif wanted == ["string", "number"] and not _QUANTITY.fullmatch(str(value)):
        yield fault(dotted(key), f"{value!r} is not a valid quantity", "write it like 95, 500m, 4Gi or 95000Mi")
    elif "enum" in schema and value not in schema["enum"]:
        yield fault(dotted(key), f"{value!r} is not known", f"one of {', '.join(map(str, schema['enum']))}")
    elif isinstance(value, int) and not -(1 << _bits(schema)) <= value < 1 << _bits(schema):
        yield fault(dotted(key), f"{value} is too large for the field", "give a smaller number")


def _bits(schema: Schema) -> int:
    return _BITS.get(schema.get("format", ""), 63)


def well_typed(value: Any, schema: Schema, version: str) -> Any:
    """A copy without what has another type than its schema says, so that rules need not ask again."""
    schema = _resolved(schema, version)
    wanted = _types(schema)
    if value is None or (wanted and not any(_is(value, name) for name in wanted)):
        return None
    if isinstance(value, list):
        found = [well_typed(item, schema.get("items", {}), version) for item in value]
        empty: Any = {} if _item_types(schema, version) == ["object"] else ""
        return [empty if item is None else item for item in found]
    if not isinstance(value, dict):
        return int(value) if wanted == ["integer"] and isinstance(value, float) else value  # 1.0 is 1
    fields, rest = schema.get("properties", {}), schema.get("additionalProperties")
    below = {name: fields.get(name, rest or {}) for name in value}
    pairs = ((name, well_typed(item, below[name], version)) for name, item in value.items())
    return {name: item for name, item in pairs if item is not None}


def _item_types(schema: Schema, version: str) -> list[str]:
    return _types(_resolved(schema.get("items", {}), version))


def _resolved(schema: Schema, version: str) -> Schema:
    while "$ref" in schema:
        schema = _definitions(version)[schema["$ref"].rpartition("/")[2]]
    return schema


def _types(schema: Schema) -> list[str]:
    """The types that a schema allows; null apart."""
    choices = schema.get("oneOf", (schema,))
    named = [choice.get("type", ()) for choice in choices]
    flat = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    return [name for name in flat if name != "null"]


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name in ("integer", "number") and isinstance(value, float):  # to JSON 1.0 is a whole number, and 1e300 is none
        return value.is_integer() and abs(value) < 1 << 63
    return isinstance(value, _TYPES[name])


def _wrong_type(value: Any, wanted: list[str], key: Key) -> Diagnostic:
    words = " or ".join(dict.fromkeys(_WORDS.get(name, "a whole number") for name in wanted))
    return fault(dotted(key), f"is {_shown(value)}, not {words}", f"write {words}")


def _shown(value: Any) -> str:
    """Return a value as YAML has it."""
    match value:
        case dict():
            return "a map"
        case list():
            return "a list"
        case bool():
            return str(value).lower()
    return repr(value)


def _map_faults(value: Mapping[Any, Any], schema: Schema, version: str, key: Key) -> Found:
    fields, rest = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        if name in fields:
            yield from schema_faults(item, fields[name], version, (*key, name))
        elif isinstance(rest, Mapping):
            if item is None:
                yield fault(dotted((*key, name)), "is empty", "give a value, or remove the line")
            yield from schema_faults(item, rest, version, (*key, name))
        elif fields:
            yield fault(dotted((*key, name)), "no such field", _nearest(name, fields, key))
    for name in schema.get("required", ()):
        if value.get(name) is None:
            yield fault(dotted((*key, name)), "is missing", "add it")


def _nearest(name: object, fields: Mapping[str, Any], key: Key) -> str:
    near = difflib.get_close_matches(str(name), fields, n=1)
    return f"did you mean {dotted((*key, near[0]))}?" if near else f"known here: {', '.join(fields)}"


def places(schema: Schema, version: str, depth: int = PLACE_DEPTH) -> Iterator[Key]:
    """Yield the path of every field below a schema; the items of a list are [0]."""
    schema = _resolved(schema, version)
    if depth == 0:
        return
    if items := schema.get("items"):
        yield from ((0, *path) for path in places(items, version, depth - 1))
    for name, below in schema.get("properties", {}).items():
        yield (name,)
        yield from ((name, *path) for path in places(below, version, depth - 1))


def _list_faults(value: list[Any], schema: Schema, version: str, key: Key) -> Found:
    names = schema.get("x-kubernetes-list-map-keys", ()) if schema.get("x-kubernetes-list-type") == "map" else ()
    seen: dict[tuple[object, ...], int] = {}
    for number, item in enumerate(value):
        yield from schema_faults(item, schema.get("items", {}), version, (*key, number))
        if item is None:
            yield fault(dotted((*key, number)), "is empty", "remove the line")
        if names and isinstance(item, dict):
            mark = tuple(str(item[name]) for name in names if item.get(name) is not None)
            if mark in seen:
                message = f"{', '.join(mark)} {USED_TWICE}, first at [{seen[mark]}]"
                yield fault(dotted((*key, number)), message, f"give each its own {' and '.join(names)}")
            seen.setdefault(mark, number)
