# SPDX-License-Identifier: Apache-2.0
"""Values: read the layers, merge them, and remember where each value came from.

Layers, the later one wins: values/default.yaml, the named files in order, values/user.yaml, then --nodes, --cards and
--set. Maps merge, lists replace, null removes. A layer that names another `device` or `site` first takes away what the
old one gave.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpikit.diagnostics import Fault
from mpikit.errors import one_fault
from mpikit.text.input import STDIN, read_text
from mpikit.text.nested import Key, dotted
from mpikit.text.quoting import shown
from mpikit.text.strict_yaml import MAX_DEPTH, Document, Origin, read_yaml
from mpikit.text.yaml_scalars import Trap, finite, integer

LOGIN = "login name"  # the source of a user that nobody wrote
DEFAULT_FILE = "default.yaml"
USER_FILE = "user.yaml"
DEFAULT_LAYER, USER_LAYER = f"values/{DEFAULT_FILE}", f"values/{USER_FILE}"  # their names in messages

# What a `device:` and a `site:` speak for. When one of them changes, these keys of the layers up to it are taken away.
GIVEN_BY = {
    "device": ("cards", "synapse", "os", "image", "resources", "host"),
    "site": (
        "namespace",
        "serviceAccountName",
        "delivery",
        "mydir",
        "dataset",
        "pretrained",
        "output",
        "launcher",
        "hostIPC",
    ),
}
# Keys in which {user} and {synapse} stand for those values.
PLACEHOLDER_KEYS = ("name", "namespace", "serviceAccountName", "mydir", "dataset", "pretrained", "output")

_SPLIT_DOTS = re.compile(r"(?<!\\)\.")


@dataclass(slots=True)
class Layer:
    """The values of one file, or of one flag."""

    source: str
    document: Document


@dataclass(slots=True)
class Values:
    """Merged values, the origin of each, and the faults met so far."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    reset: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Keys that a change of device or site took away -> `device` or `site`, and the words for why."""
    settled: dict[str, set[str]] = field(default_factory=dict)
    """`device` and `site` -> the sources of all layers up to the one that named it."""

    def origin(self, key: Key) -> Origin | None:
        """The origin of a key, or of the nearest map above it."""
        return next((self.origins[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.origins), None)

    def where(self, key: Key) -> str:
        """The origin of a key as `file:line`; empty for a value that nobody wrote."""
        return str(self.origin(key) or "")


def load_values(
    root: Path,
    files: Sequence[str] = (),
    settings: Sequence[tuple[str, str]] = (),
    login: str = "",
    user_file: bool = True,
) -> Values:
    """The merged values of all layers. `settings` are (flag, key=value) pairs; `login` stands in for a missing user."""
    if not os.path.isdir(root):  # noqa: PTH112  Path.is_dir raises on a name that is too long
        raise one_fault("", "no such folder", "give the folder that holds default.yaml", f"--values-root {root}")
    layers = [_file_layer(root / DEFAULT_FILE, root), _login_layer(login)]
    if list(files).count(STDIN) > 1:
        raise one_fault("", "standard input is named twice", "give -f - once", "-f")
    layers += [_stdin_layer() if name == STDIN else _file_layer(_find(root, name), root) for name in files]
    if user_file and os.path.lexists(root / USER_FILE):
        layers.append(_file_layer(root / USER_FILE, root))
    layers += [_setting_layer(flag, text) for flag, text in settings]
    return merge(layers)


def merge(layers: Sequence[Layer]) -> Values:
    """The layers laid over each other, the last one on top."""
    values = Values(layers=list(layers))
    for number, layer in enumerate(layers):
        values.faults += layer.document.faults
        data = layer.document.data
        if data is None:
            continue
        if not isinstance(data, dict):
            values.faults.append(Fault("", layer.source, "holds no map of values", "write KEY: VALUE lines"))
            continue
        _reset_given(values, data)
        for chooser in GIVEN_BY.keys() & data.keys():
            values.settled[chooser] = {lower.source for lower in layers[: number + 1]}
        _merge_map(values, data, layer.document.origins, ())
    return values


def take_out(values: Values, keys: Iterable[Key]) -> None:
    """Take the topmost layer's say on each of the keys out of the values; a list goes as a whole."""
    for key in dict.fromkeys(_above_list(key) for key in keys):
        for layer in reversed(values.layers):
            if _remove(layer.document.data, key):
                break
    merged = merge(values.layers)
    values.data, values.origins, values.reset = merged.data, merged.origins, merged.reset


def _above_list(key: Key) -> Key:
    return key[: next((number for number, part in enumerate(key) if isinstance(part, int)), len(key))]


def fill_placeholders(values: Values) -> None:
    """Put user and synapse where {user} and {synapse} stand."""
    words = {name: str(values.data.get(name, "")) for name in ("user", "synapse")}
    for name in PLACEHOLDER_KEYS:
        if name in values.data:
            values.data[name] = _filled(values.data[name], words)


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    for name, word in words.items():
        value = value.replace(f"{{{name}}}", word)
    return value


def _reset_given(values: Values, data: dict[str, Any]) -> None:
    """Take away what the old device or site gave, if `data` names another one."""
    for chooser, given in GIVEN_BY.items():
        old = values.data.get(chooser)
        if chooser not in data or old is None or data[chooser] == old:
            continue
        for name in given:
            origin = values.origins.get((name,))
            if origin and origin.source in values.settled[chooser] and values.data.pop(name, None) is not None:
                values.reset[name] = (chooser, f"{chooser}: {data[chooser]} takes away what {chooser}: {old} gave")
                _forget(values, (name,))


def _merge_map(values: Values, data: dict[str, Any], origins: dict[Key, Origin], prefix: Key) -> None:
    target = values.data
    for part in prefix:
        target = target[str(part)]
    for name, item in data.items():
        key = (*prefix, name)
        if isinstance(item, dict) and isinstance(target.get(name), dict):
            _merge_map(values, item, origins, key)
            continue
        _forget(values, key)
        target.pop(name, None)
        values.origins[key] = origins.get(key, values.origins.get(prefix, Origin("")))
        if item is None:
            continue
        target[name] = _without_nulls(item)
        inner = ((*key, *path) for path in _paths(item))
        values.origins |= {place: origins[place] for place in inner if place in origins}


def _without_nulls(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _without_nulls(inner) for key, inner in item.items() if inner is not None}
    return item


def _forget(values: Values, key: Key) -> None:
    if key not in values.origins:
        return  # nor is anything below it
    for inner in [inner for inner in values.origins if inner[: len(key)] == key]:
        del values.origins[inner]


def _remove(data: Any, key: Key) -> bool:
    """Delete an entry of nested maps; false if it is not there."""
    *path, last = key
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return isinstance(data, dict) and data.pop(last, None) is not None


def _find(root: Path, name: str) -> Path:
    """A values file by its path, or by its bare name in values/."""
    path = Path(name)
    if not os.path.lexists(path) and path.parent == Path() and os.path.lexists(root / name):
        return root / name
    return path


def _file_layer(path: Path, root: Path) -> Layer:
    shown = _shown(path, root)
    return _text_layer(shown, read_text(path, shown, _shipped(root)))


def _text_layer(source: str, text: str) -> Layer:
    document = read_yaml(text, source)
    document.faults += [
        _tilde(key, origin) for key, origin in document.origins.items() if origin.raw == "~" and origin.plain
    ]
    return Layer(source, document)


def _tilde(key: Key, origin: Origin) -> Fault:
    """~ is null to YAML and takes a value away, which nobody means who writes it for a home folder."""
    return Fault(dotted(key), str(origin), "YAML reads ~ as null", 'write null, or the whole path, or "~" in quotes')


def _login_layer(login: str) -> Layer:
    return Layer(LOGIN, Document({"user": login}, {("user",): Origin(LOGIN, raw=login)}))


def _stdin_layer() -> Layer:
    return _text_layer("standard input", read_text(STDIN, "standard input"))


def _shown(path: Path, root: Path) -> str:
    """A path as the user knows it: values/NAME for the kit's own files."""
    return f"values/{path.name}" if os.path.realpath(path.parent) == os.path.realpath(root) else str(path)


def _shipped(root: Path) -> str:
    return f"shipped: {', '.join(sorted(_shown(path, root) for path in root.glob('*.yaml')))}"


def _setting_layer(flag: str, text: str) -> Layer:
    """The layer of one flag; the value is raw text, typed later by its field, or JSON if it starts with { or [."""
    name, equals, raw = text.partition("=")
    if not equals or not name.strip():
        raise one_fault("", f"{shown(text)} is not KEY=VALUE", "write --set key.path=value", flag)
    key: Key = tuple(part.replace("\\.", ".") for part in _SPLIT_DOTS.split(name.strip()))
    if len(key) > MAX_DEPTH:
        raise one_fault("", f"{shown(text)} is nested deeper than {MAX_DEPTH}", "write --set key.path=value", flag)
    value = _setting_value(flag, dotted(key), raw)
    origin = Origin(flag, raw=raw)
    origins = {key[:end]: origin for end in range(1, len(key) + 1)} | {(*key, *path): origin for path in _paths(value)}
    for part in reversed(key):
        value = {str(part): value}
    return Layer(flag, Document(value, origins))


def _setting_value(flag: str, key: str, raw: str) -> Any:
    if raw == "null":
        return None
    if not raw.startswith(("{", "[")):
        return raw
    try:
        value = json.loads(
            raw, object_pairs_hook=_without_twins, parse_int=integer, parse_float=finite, parse_constant=finite
        )
    except json.JSONDecodeError as error:
        fix = 'a value that starts with { or [ is JSON, such as {"pvc": "NAME"}'
        raise one_fault(key, f"not JSON: {error.msg} at character {error.pos + 1}", fix, flag) from None
    except Trap as trap:
        raise one_fault(key, trap.message, trap.fix, flag) from None
    except RecursionError:
        value = None
    if value is None or any(len(path) > MAX_DEPTH for path in _paths(value)):
        raise one_fault(key, f"nested deeper than {MAX_DEPTH}", "make the JSON flatter", flag)
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        names = [name for name, _ in pairs]
        raise Trap(
            f"{shown(next(name for name in names if names.count(name) > 1))} is given twice", "keep one of the two"
        )
    return built


def _paths(value: Any) -> Iterator[Key]:
    """The place of everything within nested data, deepest last; nothing below MAX_DEPTH + 1."""
    left: list[tuple[Key, Any]] = [((), value)]
    while left:
        path, item = left.pop()
        inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for part, below in inner:
            yield (*path, part)
            if len(path) <= MAX_DEPTH:
                left.append(((*path, part), below))
