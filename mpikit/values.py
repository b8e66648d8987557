"""Values: read the layers, merge them, and remember where each value came from.

Layers, the later one wins: values/default.yaml, the named files in order, values/user.yaml, then --nodes, --cards and
--set. Maps merge, lists replace, null removes. A layer that names another `device` or `site` first takes away what the
old one gave.
"""

from __future__ import annotations

import json
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpikit.errors import Fault, one_fault
from mpikit.reader import Document, Key, Origin, dotted, read_yaml

LOGIN = "login name"  # the source of a user that nobody wrote
DEFAULT_FILE = "default.yaml"
USER_FILE = "user.yaml"

# What a `device:` and a `site:` speak for. When one of them changes, these keys of the layers up to it are taken away.
GIVEN_BY = {
    "device": ("cards", "synapse", "os", "image", "resources", "host"),
    "site": ("namespace", "serviceAccountName", "mydir", "dataset", "pretrained", "output", "launcher", "hostIPC"),
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
    layers = [_file_layer(root / DEFAULT_FILE, root), _login_layer(login)]
    layers += [_stdin_layer() if name == "-" else _file_layer(_find(root, name), root) for name in files]
    if user_file and (root / USER_FILE).exists():
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


def without(values: Values, key: Key) -> Values:
    """The values as if the layer that gave `key` had not; that layer's other values stay."""
    for layer in reversed(values.layers):
        if _remove(layer.document.data, key):
            break
    merged = merge(values.layers)
    merged.faults = values.faults
    return merged


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
        values.origins |= {inner: origin for inner, origin in origins.items() if inner[: len(key)] == key}


def _without_nulls(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _without_nulls(inner) for key, inner in item.items() if inner is not None}
    return item


def _forget(values: Values, key: Key) -> None:
    for inner in [inner for inner in values.origins if inner[: len(key)] == key]:
        del values.origins[inner]


def _remove(data: Any, key: Key) -> bool:
    """Delete `key` from nested data; false if it is not there."""
    *path, last = key
    for part in path:
        if isinstance(data, list):
            data = data[part] if isinstance(part, int) and part < len(data) else None
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return isinstance(data, dict) and data.pop(last, None) is not None


def _find(root: Path, name: str) -> Path:
    """A values file by path, or by its bare name in values/."""
    path = Path(name)
    if not path.exists() and path.parent == Path() and (root / name).exists():
        return root / name
    return path


def _file_layer(path: Path, root: Path) -> Layer:
    shown = _shown(path, root)
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode):
            raise one_fault("", "a pipe, which can be read only once", "give a file, or -f - for standard input", shown)
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise one_fault("", "no such values file", _shipped(root), shown) from None
    except UnicodeDecodeError as error:
        raise one_fault("", f"not UTF-8 text (byte {error.start})", "save the file as UTF-8", shown) from None
    except OSError as error:
        raise one_fault("", f"cannot be read: {error.strerror}", "give a readable file", shown) from None
    return Layer(shown, read_yaml(text, shown))


def _login_layer(login: str) -> Layer:
    return Layer(LOGIN, Document({"user": login}, {("user",): Origin(LOGIN, raw=login)}))


def _stdin_layer() -> Layer:
    return Layer("standard input", read_yaml(sys.stdin.read(), "standard input"))


def _shown(path: Path, root: Path) -> str:
    """A path as the user knows it: values/NAME for the kit's own files."""
    return f"{root.name}/{path.name}" if path.parent.resolve() == root.resolve() else str(path)


def _shipped(root: Path) -> str:
    return f"shipped: {', '.join(sorted(str(_shown(path, root)) for path in root.glob('*.yaml')))}"


def _setting_layer(flag: str, text: str) -> Layer:
    """The layer of one flag; the value is raw text, typed later by its field, or JSON if it starts with { or [."""
    name, equals, raw = text.partition("=")
    if not equals or not name.strip():
        raise one_fault("", f"{text!r} is not KEY=VALUE", "write --set key.path=value", flag)
    key: Key = tuple(part.replace("\\.", ".") for part in _SPLIT_DOTS.split(name.strip()))
    value = _setting_value(flag, dotted(key), raw)
    document = Document(origins={key[:end]: Origin(flag, raw=raw) for end in range(1, len(key) + 1)})
    for part in reversed(key):
        value = {str(part): value}
    document.data = value
    return Layer(flag, document)


def _setting_value(flag: str, key: str, raw: str) -> Any:
    if raw == "null":
        return None
    if not raw.startswith(("{", "[")):
        return raw
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        fix = 'a value that starts with { or [ is JSON, such as {"pvc": "NAME"}'
        raise one_fault(key, f"not JSON: {error.msg} at character {error.pos + 1}", fix, flag) from None
