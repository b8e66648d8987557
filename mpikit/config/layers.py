# SPDX-License-Identifier: Apache-2.0
"""Layers of values: read one file, standard input or flag, with the place of each value."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpikit.config.identity import identity_of
from mpikit.diagnostics import Diagnostic
from mpikit.errors import one_fault
from mpikit.resources import USER_FILE
from mpikit.text.input import STDIN, read_text
from mpikit.text.nested import Key, as_map, dotted
from mpikit.text.quoting import shown
from mpikit.text.strict_yaml import MAX_DEPTH, Document, Origin, read_yaml
from mpikit.text.yaml_scalars import Trap, finite, integer

LOGIN, PLACEHOLDER = "login name", "placeholder"  # the sources of the default user
DEFAULT_FILE = "default.yaml"
DEFAULT_LAYER, USER_LAYER = f"values/{DEFAULT_FILE}", f"values/{USER_FILE}"  # their names in messages

_SPLIT_DOTS = re.compile(r"(?<!\\)\.")


@dataclass(slots=True)
class Layer:
    """The values of one file, or of one flag."""

    source: str
    document: Document
    path: Path | None = None
    """The file; None for standard input, a flag and the login name."""


def find_file(root: Path, name: str) -> Path:
    """Return a values file by its path; else a shipped one, by NAME or values/NAME."""
    path = Path(name)
    if not os.path.lexists(path) and path.parent in (Path(), Path("values")) and os.path.lexists(root / path.name):
        return root / path.name
    return path


def file_layer(path: Path, root: Path) -> Layer:
    source = shown_path(path, root)
    text = read_text(path, source, _meant_file(path, root))
    layer = _text_layer(source, text)
    layer.path = root / path.name if _is_inside(path, root) or _is_copy(text, root / path.name) else path
    return layer


def _is_copy(text: str, shipped: Path) -> bool:
    """Whether a file of another folder says the same as the shipped one of its name."""
    return shipped.is_file() and text == read_text(shipped, str(shipped))


def _text_layer(source: str, text: str) -> Layer:
    document = read_yaml(text, source)
    document.faults += [
        _tilde(key, origin) for key, origin in document.origins.items() if origin.raw == "~" and origin.plain
    ]
    return Layer(source, document)


def _tilde(key: Key, origin: Origin) -> Diagnostic:
    """Report ~, which is null to YAML and removes a value; the author probably meant the home folder."""
    return Diagnostic(
        dotted(key), str(origin), "YAML reads ~ as null", 'write null, or the whole path, or "~" in quotes'
    )


def login_layer(login: str) -> Layer:
    """Return the layer of the login name, as a valid user name; the origin keeps the login itself."""
    identity = identity_of(login)
    source = PLACEHOLDER if identity.placeholder else LOGIN
    return Layer(source, Document({"user": identity.name}, {("user",): Origin(source, raw=login)}))


def stdin_layer() -> Layer:
    return _text_layer("standard input", read_text(STDIN, "standard input"))


def shown_path(path: Path, root: Path) -> str:
    """Return a path as the user knows it: values/NAME for the kit's own files."""
    return f"values/{path.name}" if _is_inside(path, root) else str(path)


def _is_inside(path: Path, root: Path) -> bool:
    return os.path.realpath(path.parent) == os.path.realpath(root)


def _meant_file(path: Path, root: Path) -> str:
    """Return what to type instead of the name of a file that does not exist."""
    if os.path.lexists(f"{path}.yaml"):
        return f"-f {path}.yaml"
    shipped = {one.stem: shown_path(one, root) for one in sorted(root.glob("*.yaml"))}
    near = difflib.get_close_matches(path.name.removesuffix(".yaml").removesuffix(".yml"), shipped, n=1, cutoff=0.7)
    return f"-f {shipped[near[0]]}" if near else f"give a file that exists; shipped: {', '.join(shipped.values())}"


def setting_layer(flag: str, text: str) -> Layer:
    """Return the layer of one flag. Its value is text, typed later by its field; YAML flow if it starts with { or [."""
    name, equals, raw = text.partition("=")
    if not equals or not name.strip():
        raise one_fault("", f"{shown(text)} is not KEY=VALUE", "write --set key.path=value", flag)
    key: Key = tuple(part.replace("\\.", ".") for part in _SPLIT_DOTS.split(name.strip()))
    if len(key) > MAX_DEPTH:
        raise one_fault("", f"{shown(text)} is nested deeper than {MAX_DEPTH}", "write --set key.path=value", flag)
    value = setting_value(flag, dotted(key), raw.strip() if name != name.rstrip() else raw)
    origin = Origin(flag, raw=raw)
    origins = {key[:end]: origin for end in range(1, len(key) + 1)} | {(*key, *path): origin for path in paths(value)}
    for part in reversed(key):
        value = {str(part): value}
    return Layer(flag, Document(value, origins))


def setting_value(flag: str, key: str, raw: str) -> Any:
    if raw == "null":
        return None
    if not raw.startswith(("{", "[")):
        return raw
    try:
        value = json.loads(
            raw, object_pairs_hook=_without_twins, parse_int=integer, parse_float=finite, parse_constant=finite
        )
    except json.JSONDecodeError:
        value = _flow_value(flag, key, raw)
    except Trap as trap:
        raise one_fault(key, trap.message, trap.fix, flag) from None
    except RecursionError:
        value = None
    if value is None or any(len(path) > MAX_DEPTH for path in paths(value)):
        raise one_fault(key, f"nested deeper than {MAX_DEPTH}", "make it flatter", flag)
    return value


def _flow_value(flag: str, key: str, raw: str) -> Any:
    """Return the value of YAML flow, such as {pvc: data}."""
    document = read_yaml(raw, flag)
    glued = [name for name in as_map(document.data) if document.data[name] is None and ":" in str(name)]
    if glued:
        raise one_fault(key, f"{shown(glued[0])} has no blank after the colon", "write {KEY: VALUE}", flag)
    if not document.faults:
        return document.data
    first = document.faults[0]
    if first.key:
        raise one_fault(f"{key}.{first.key}", first.message.partition(" (")[0], first.fix.removesuffix(" lines"), flag)
    raise one_fault(key, f"{shown(raw)} is not valid YAML", "write it in quotes, such as '{pvc: NAME}'", flag)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        names = [name for name, _ in pairs]
        raise Trap(
            f"{shown(next(name for name in names if names.count(name) > 1))} is given twice", "keep one of the two"
        )
    return built


def paths(value: Any) -> Iterator[Key]:
    """Yield the place of everything within nested data, deepest last, down to MAX_DEPTH + 1."""
    left: list[tuple[Key, Any]] = [((), value)]
    while left:
        path, item = left.pop()
        inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for part, below in inner:
            yield (*path, part)
            if len(path) <= MAX_DEPTH:
                left.append(((*path, part), below))
