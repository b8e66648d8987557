# SPDX-License-Identifier: Apache-2.0
"""kubectl's Go reader and the API server as second readers of manifests, many in one call."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

Manifests = dict[str, tuple[str, list[Any]]]
"""Name of a case -> its manifest, and the objects that PyYAML reads in it."""
LOCAL = ("label", "--local", "--dry-run=client", "-f", "-", "soak=soak", "-o", "json")
SERVER = ("create", "--dry-run=server", "--validate=strict", "-f", "-", "-o", "json")


def alike(ours: Any, theirs: Any) -> bool:
    """Equal with equal types; a number with an exponent and no dot is one to all readers but PyYAML."""
    match ours:
        case dict():
            return (
                isinstance(theirs, dict)
                and ours.keys() == theirs.keys()
                and all(alike(v, theirs[k]) for k, v in ours.items())
            )
        case list():
            return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(alike, ours, theirs))
        case float() if isinstance(theirs, str):
            return "e" in theirs.lower() and ours == float(theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


def read_by_kubectl(kubectl: str, manifests: Manifests) -> list[str]:
    """The cases that kubectl takes for something else than PyYAML does, and what is different."""
    return _read([kubectl, *LOCAL], manifests, _difference_to)


def read_by_server(kubectl: str, manifests: Manifests) -> list[str]:
    """The cases that the API server refuses, or stores as something else; all in the namespace default."""
    moved = {
        name: (_moved(text), [_moved_object(one) for one in objects]) for name, (text, objects) in manifests.items()
    }
    return _read([kubectl, *SERVER], moved, _missing_in)


def _moved(text: str) -> str:
    return re.sub(r"^  namespace: .*\n", "", text, flags=re.MULTILINE)


def _moved_object(found: Any) -> Any:
    metadata = {name: value for name, value in found["metadata"].items() if name != "namespace"}
    return found | {"metadata": metadata}


def _read(command: list[str], manifests: Manifests, difference: Callable[[Any, Any], str]) -> list[str]:
    if not manifests:
        return []
    text = "---\n".join(manifest for manifest, _ in manifests.values())
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode and len(manifests) > 1:  # one by one, to see whose fault it is
        return [line for name, one in manifests.items() for line in _read(command, {name: one}, difference)]
    if done.returncode:
        return [f"{next(iter(manifests))}\n    kubectl {command[1]}: {done.stderr.decode()[:800]}"]
    answers = _stream(done.stdout.decode())
    return [
        f"{name}\n    kubectl {command[1]}: {told}"
        for name, (_, objects) in manifests.items()
        for wanted in objects
        if (told := difference(next(answers), wanted))
    ]


def _stream(text: str) -> Iterator[Any]:
    """The JSON objects that kubectl prints one after the other."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text):
        found, position = decoder.raw_decode(text, position)
        position += len(text[position:]) - len(text[position:].lstrip())
        yield found


def _difference_to(found: Any, wanted: Any) -> str:
    del found["metadata"]["labels"]["soak"]
    return first_difference(_numbers(found), _numbers(wanted))


def _missing_in(found: Any, wanted: Any) -> str:
    """The server adds fields of its own; what was sent must be there as it was."""
    return first_difference(_within(_numbers(found), wanted), _numbers(wanted))


def _within(found: Any, wanted: Any) -> Any:
    """Of `found`, the fields that `wanted` has."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {name: _within(found[name], item) for name, item in wanted.items() if name in found}
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [_within(one, other) for one, other in zip(found, wanted, strict=True)]
    return found


def _numbers(value: Any) -> Any:
    """Whole floats as integers: kubectl prints 1.0 as 1."""
    match value:
        case dict():
            return {name: _numbers(item) for name, item in value.items()}
        case list():
            return [_numbers(item) for item in value]
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
    return value


def same(found: Any, wanted: Any) -> bool:
    """Equal, with equal types."""
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def first_difference(found: Any, wanted: Any, path: str = "") -> str:
    """Where two objects differ first, and what stands there; empty if they do not."""
    if same(found, wanted):
        return ""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in {**found, **wanted}:
            if name not in found or name not in wanted or not same(found[name], wanted[name]):
                return first_difference(found.get(name), wanted.get(name), f"{path}.{name!r:.40}")
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if not same(one, other):
                return first_difference(one, other, f"{path}[{number}]")
    return f"{path} is {found!r:.150}, not {wanted!r:.150}"
