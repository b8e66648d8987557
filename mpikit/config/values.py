# SPDX-License-Identifier: Apache-2.0
"""Values: read the layers, merge them, and remember where each value came from.

Layers, the later one wins: values/default.yaml, the profile, values/user.yaml, each -f in order, then --nodes, --cards
and --set. Maps merge, lists replace, null removes. A profile is a file of values/ that sets `device`; exactly one is
the base of a job (see `choose_profile`).
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpikit.config.identity import Identity, identity_of
from mpikit.config.layers import (
    DEFAULT_FILE,
    LOGIN,
    PLACEHOLDER,
    USER_LAYER,
    Layer,
    file_layer,
    find_file,
    login_layer,
    paths,
    setting_layer,
    stdin_layer,
)
from mpikit.config.profiles import choose_profile, is_profile
from mpikit.diagnostics import Diagnostic
from mpikit.errors import one_fault
from mpikit.resources import USER_FILE
from mpikit.text.input import STDIN
from mpikit.text.nested import Key, dotted
from mpikit.text.strict_yaml import Document, Origin

# Keys in which {user} and {synapse} stand for those values.
FOLDER_KEYS = ("mydir", "dataset", "pretrained", "output")
PLACEHOLDER_KEYS = ("name", "namespace", "serviceAccountName", *FOLDER_KEYS)

NUM_BASE_LAYERS = 3  # default.yaml, the login name, the profile


@dataclass(frozen=True, slots=True)
class Removed:
    """A value that a null of a later layer took away."""

    key: Key
    where: Origin
    """Place of the null."""
    source: str
    """Place of the value."""


@dataclass(slots=True)
class Values:
    """Merged values, the origin of each, and the faults met so far."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)
    faults: list[Diagnostic] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    profile: str = ""
    """Name of the profile that is the base."""
    removed: list[Removed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the user should know of the choice of layers."""
    from_user: set[str] = field(default_factory=set)
    """Keys other than `name` whose value contains {user}."""

    def origin(self, key: Key) -> Origin | None:
        """Return the origin of a key, or of the nearest map above it."""
        return next((self.origins[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.origins), None)

    def where(self, key: Key) -> str:
        """Return the origin of a key as `file:line`; empty for a default."""
        return str(self.origin(key) or "")

    @property
    def identity(self) -> Identity | None:
        """The login name, if it stands in for a `user` that is not set."""
        origin = self.origins.get(("user",))
        return identity_of(origin.raw) if origin and origin.source in (LOGIN, PLACEHOLDER) else None

    @property
    def guess(self) -> tuple[Identity, set[str]] | None:
        """An identity that is not the login itself, and the keys other than `name` that follow from it."""
        return (self.identity, self.from_user) if self.identity and not self.identity.exact else None


def load_values(
    root: Path,
    files: Sequence[str] = (),
    settings: Sequence[tuple[str, str]] = (),
    login: str = "",
    user_file: bool = True,
    profile: str | None = None,
) -> Values:
    """Merge all layers of one folder. `settings` are (flag, key=value) pairs; `login` stands in for a missing user."""
    return overlay(read_layers(root, files, login, root / USER_FILE if user_file else None, profile), settings)


@dataclass(frozen=True, slots=True)
class Sources:
    """The layers below the flags, each file read once."""

    root: Path
    base: tuple[Layer, ...]
    """default.yaml and the login name."""
    own: tuple[Layer, ...]
    """values/user.yaml and the files of -f."""
    profile: str | None
    """What --profile names."""


def read_layers(
    root: Path, files: Sequence[str] = (), login: str = "", own_values: Path | None = None, profile: str | None = None
) -> Sources:
    """Read the files of all layers. Raises ValuesError for a file that cannot be read."""
    if not os.path.isdir(root):  # noqa: PTH112  Path.is_dir raises on a name that is too long
        raise one_fault("", "no such folder", "give the folder that contains default.yaml", f"--values-root {root}")
    if list(files).count(STDIN) > 1:
        raise one_fault("", "standard input is named twice", "give -f - once", "-f")
    base = (file_layer(root / DEFAULT_FILE, root), login_layer(login))
    own = [stdin_layer() if name == STDIN else file_layer(find_file(root, name), root) for name in files]
    own = [layer for layer in own if layer.path != root / DEFAULT_FILE]  # it is the base already
    if own_values is not None and os.path.lexists(own_values):
        own.insert(0, file_layer(own_values, root))
    return Sources(root, base, tuple(own), profile)


def overlay(sources: Sources, settings: Sequence[tuple[str, str]] = ()) -> Values:
    """Choose the profile, and lay the files and then the settings over it."""
    flags = [setting_layer(flag, text) for flag, text in settings]
    own = [*sources.own, *flags]
    choice = choose_profile(sources.root, own, sources.profile)
    kept = [layer for layer in own if layer is choice.layer or not is_profile(layer, sources.root)]
    values = merge([*sources.base, choice.layer, *kept])
    values.profile = choice.name
    values.data["profile"] = choice.name
    values.origins[("profile",)] = Origin(choice.layer.source)
    values.faults += choice.faults
    values.notes += [*_elsewhere(kept), *choice.notes, *_overridden(kept, choice.layer)]
    return values


def _elsewhere(own: Sequence[Layer]) -> list[str]:
    """Name the values/user.yaml in use where it is not the one beside the profiles."""
    return [f"{USER_LAYER}: {layer.path.absolute()}" for layer in own if layer.path == Path("values", USER_FILE)]


def _overridden(own: Sequence[Layer], base: Layer) -> list[str]:
    """Return each key of values/user.yaml on which a profile that was named with -f has the last word."""
    mine = next((layer for layer in own if layer.source == USER_LAYER), None)
    if mine is None or not any(layer is base for layer in own):
        return []
    theirs = [("profile",), *(key for key, _ in leaves(base.document.data))]
    keys = [key for key, _ in leaves(mine.document.data) if any(_nested(key, other) for other in theirs)]
    return [f"{base.source} overrides {dotted(key)} of {mine.document.origins.get(key, USER_LAYER)}" for key in keys]


def _nested(one: Key, other: Key) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def leaves(value: Any, prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield every value below nested maps, with its key; an empty map is a value."""
    if isinstance(value, dict) and (value or not prefix):
        for name, item in value.items():
            yield from leaves(item, (*prefix, name))
    elif prefix:
        yield prefix, value


def merge(layers: Sequence[Layer]) -> Values:
    """Lay the layers over each other, the last one on top."""
    values = Values(layers=list(layers))
    for layer in layers:
        if not any(layer is earlier for earlier in layers[: layers.index(layer)]):
            values.faults += layer.document.faults
        data = layer.document.data
        if not isinstance(data, dict):
            if data is not None or not (layer.document.faults or layer.source == USER_LAYER):
                values.faults.append(_without_values(layer))
            continue
        _merge_map(values, data, layer.document.origins, ())
    return values


def _without_values(layer: Layer) -> Diagnostic:
    """Return a file that is empty, or that contains no KEY: VALUE lines."""
    data = layer.document.data
    if data is None:
        fix = "write KEY: VALUE lines, or leave the file out"
        return Diagnostic("", layer.source, "contains no values", fix, "warning")
    name, colon, value = data.partition(":") if isinstance(data, str) else ("", "", "")
    fix = f"write a blank after the colon: {name}: {value}" if colon and "\n" not in data else "write KEY: VALUE lines"
    return Diagnostic("", layer.source, "contains no KEY: VALUE lines", fix)


def on_top(values: Values, layer: Layer) -> Values:
    """Return the values with one more layer above all."""
    return merge([*values.layers, layer])


def overridden(values: Values, layer: Layer) -> Layer | None:
    """Return what a layer says that a later one replaces; None if nothing is."""
    origins = layer.document.origins
    hidden = [(key, item) for key, item in leaves(layer.document.data) if values.origins.get(key) != origins.get(key)]
    hidden = [(key, item) for key, item in hidden if item is not None]
    data: dict[str, Any] = {}
    for key, item in hidden:
        inner = data
        for part in key[:-1]:
            inner = inner.setdefault(str(part), {})
        inner[str(key[-1])] = item
    return Layer(layer.source, Document(data, origins)) if hidden else None


def without(values: Values, keys: Iterable[Key]) -> Values:
    """Return the values without what layers above the profile say on these keys; a list is removed as a whole."""
    gone = [_above_list(key) for key in keys]
    own = [Layer(layer.source, _pruned(layer.document, gone)) for layer in values.layers[NUM_BASE_LAYERS:]]
    return merge([*values.layers[:NUM_BASE_LAYERS], *own])


def _pruned(document: Document, keys: Iterable[Key]) -> Document:
    data = copy.deepcopy(document.data)
    for key in keys:
        _remove(data, key)
    return Document(data, document.origins)


def _above_list(key: Key) -> Key:
    return key[: next((number for number, part in enumerate(key) if isinstance(part, int)), len(key))]


def fill_placeholders(values: Values) -> None:
    """Put user and synapse where {user} and {synapse} stand; a folder of a user who is not set keeps the login name."""
    words = {name: str(values.data.get(name, "")) for name in ("user", "synapse")}
    in_paths = words | ({"user": values.identity.path_name} if values.identity else {})
    for name in PLACEHOLDER_KEYS:
        value = values.data.get(name)
        if "{user}" in str(value) and name != "name":
            values.from_user.add(name)
        if value is not None:
            values.data[name] = _filled(value, in_paths if name in FOLDER_KEYS else words)


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    for name, word in words.items():
        value = value.replace(f"{{{name}}}", word)
    return value


def _merge_map(values: Values, data: dict[str, Any], origins: dict[Key, Origin], prefix: Key) -> None:
    target = values.data
    for part in prefix:
        target = target[str(part)]
    for name, item in data.items():
        key = (*prefix, name)
        if isinstance(item, dict) and isinstance(target.get(name), dict):
            _merge_map(values, item, origins, key)
            continue
        old, source = target.pop(name, None), values.where(key)
        _forget(values, key)
        values.origins[key] = origins.get(key, values.origins.get(prefix, Origin("")))
        if item is None:
            _note_removal(values, key, old, source)
            continue
        target[name] = _without_nulls(item)
        inner = ((*key, *path) for path in paths(item))
        values.origins |= {place: origins[place] for place in inner if place in origins}


def _note_removal(values: Values, key: Key, old: Any, source: str) -> None:
    """Record what a null removes; a key with nothing behind it is a fault, because few who write it mean null."""
    origin = values.origins[key]
    if origin.plain and not origin.raw:
        num = sum(1 for _ in leaves(old, key)) if old is not None else 0
        names = ", ".join(dotted(inner) for inner, _ in itertools.islice(leaves(old, key), 3)) if num else ""
        more = f" and {num - 3} more" if num > 3 else ""
        message = "has no value" + (f", which would remove {names}{more}" if num else "")
        fix = "write a value, take the line out, or write null to remove it"
        values.faults.append(Diagnostic(dotted(key), str(origin), message, fix))
    elif old not in (None, {}, []):
        values.removed.append(Removed(key, origin, source))


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
