# SPDX-License-Identifier: Apache-2.0
"""Profiles: which file of values/ is the base of a job.

A profile is a file of values/ that sets `device`. Files of values/ that do not (baseline, restricted, demo) are
add-ons: they lie over a profile, and name the one that they are meant for with `profile:`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpikit.config.layers import DEFAULT_FILE, Layer, file_layer
from mpikit.diagnostics import Diagnostic
from mpikit.errors import ValuesError, one_fault
from mpikit.resources import USER_FILE
from mpikit.text.quoting import shown

DEFAULT_PROFILE = "voyager"
ANY_SITE = "generic"  # of a user.yaml written by version 0.1: a site that has no profile


@dataclass(slots=True)
class Choice:
    """The profile of a job, and what the user should know of the choice."""

    name: str
    layer: Layer
    faults: list[Diagnostic] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_profile(layer: Layer, root: Path) -> bool:
    """Whether a layer is one of the profiles in `root`."""
    data = layer.document.data
    path = layer.path
    if path is None or path.parent != root or path.name in (DEFAULT_FILE, USER_FILE):
        return False
    return isinstance(data, dict) and data.get("device") is not None


def profile_names(root: Path) -> list[str]:
    """Return the profiles in `root`."""
    return sorted(layer.path.stem for layer in _profiles(root) if layer.path)


def choose_profile(root: Path, own: Sequence[Layer], named: str | None) -> Choice:
    """Return the base among the profiles of `root`.

    --profile, else the last -f that is a profile, else `profile` of the last layer that sets it, else the one whose
    `device` and `site` the last layers set, else DEFAULT_PROFILE. Raises ValuesError for a name that is not a profile.
    """
    files = [layer for layer in own if is_profile(layer, root)]
    if named is not None:
        choice = Choice(named, _read(root, named, "--profile"))
    elif files:
        choice = Choice(_stem(files[-1]), files[-1])
    elif setter := _last(own, "profile"):
        name = _value(setter, "profile")
        choice = Choice(name, _read(root, name, _where(setter, "profile")))
    else:
        choice = _by_device(root, own)
    choice.notes += [
        f"{layer.source} is not used: the profile is {choice.name}" for layer in files if _stem(layer) != choice.name
    ]
    if files and _stem(files[-1]) == DEFAULT_PROFILE == choice.name:
        choice.notes.append("voyager delivers by ConfigMap; the layout with mydir is the profile voyager-mydir")
    choice.faults += [*_unknown(root, own), *_contradictions(root, own, choice)]
    return choice


def _unknown(root: Path, own: Sequence[Layer]) -> list[Diagnostic]:
    """Report each layer whose `profile` does not exist, even if another layer's is used."""
    found: list[Diagnostic] = []
    for layer in own:
        if name := _value(layer, "profile"):
            try:
                _read(root, name, _where(layer, "profile"))
            except ValuesError as error:
                found += error.faults
    return found


def _by_device(root: Path, own: Sequence[Layer]) -> Choice:
    """Return the profile that fits the `device` and the `site` of the user's own layers."""
    default = Choice(DEFAULT_PROFILE, _read(root, DEFAULT_PROFILE, "--profile"))
    device, site = _last(own, "device"), _last(own, "site")
    if device is None and site is None:
        return default
    wanted = {key: _value(layer, key) for key, layer in (("device", device), ("site", site)) if layer}
    if _fits(default.layer, wanted):
        return default
    fitting = next((layer for layer in _profiles(root) if _fits(layer, wanted)), None)
    if fitting is None:
        return default  # the contradiction is reported
    name, chooser = _stem(fitting), device or site
    key = "device" if device else "site"
    assert chooser is not None
    note = f"{_where(chooser, key)}: {key}: {wanted[key]} selects profile {name}; write profile: {name} instead"
    return Choice(name, fitting, notes=[note])


def _contradictions(root: Path, own: Sequence[Layer], choice: Choice) -> list[Diagnostic]:
    """Report `device` and `site` of the user's layers if they are not those of the profile."""
    found = []
    for layer in own:
        for key in ("device", "site"):
            if is_profile(layer, root) or _fits(choice.layer, _said(layer, key)):
                continue
            value = _value(layer, key)
            names = [_stem(one) for one in _profiles(root) if _fits(one, {key: value})]
            mine = _value(choice.layer, key) or ANY_SITE
            message = f"{shown(value)} is not the {key} of profile {choice.name} ({mine})"
            fix = (
                f"write profile: {names[0]}"
                if names
                else f"write profile: NAME, one of {', '.join(profile_names(root))}"
            )
            found.append(Diagnostic(key, _where(layer, key), message, fix))
    return found


def _fits(profile: Layer, wanted: dict[str, str]) -> bool:
    """Whether a profile has this device and site; a profile without a site fits any that is not a profile's own."""
    device, site = _value(profile, "device"), _value(profile, "site") or ANY_SITE
    return wanted.get("device", device) == device and wanted.get("site", site) == site


def _said(layer: Layer, key: str) -> dict[str, str]:
    return {key: value} if (value := _value(layer, key)) else {}


def _profiles(root: Path) -> list[Layer]:
    """Return all profiles of `root`, the default first."""
    paths = sorted(root.glob("*.yaml"), key=lambda path: (path.stem != DEFAULT_PROFILE, path.stem))
    return [layer for path in paths if is_profile(layer := file_layer(path, root), root)]


def _read(root: Path, name: str, where: str) -> Layer:
    path = root / f"{name}.yaml"
    layer = file_layer(path, root) if path.parent == root and path.is_file() else None
    if layer is None or not is_profile(layer, root):
        names = profile_names(root)
        near = difflib.get_close_matches(Path(name).stem, names, n=1, cutoff=0.7)
        fix = f"write {near[0]}; known: {', '.join(names)}" if near else f"write one of {', '.join(names)}"
        raise one_fault("profile", f"{shown(name)} is not a profile", fix, where)
    return layer


def _last(layers: Sequence[Layer], key: str) -> Layer | None:
    return next((layer for layer in reversed(layers) if _value(layer, key)), None)


def _value(layer: Layer, key: str) -> str:
    data: Any = layer.document.data
    value = data.get(key) if isinstance(data, dict) else None
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def _where(layer: Layer, key: str) -> str:
    return str(layer.document.origins.get((key,), layer.source))


def _stem(layer: Layer) -> str:
    assert layer.path is not None
    return layer.path.stem
