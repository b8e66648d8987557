# SPDX-License-Identifier: Apache-2.0
"""Values files that somebody could write by mistake or on purpose; the seed of a case says all of it."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.support.hostile.places import KEY, places
from tests.support.hostile.places import Path as Place
from tests.support.hostile.strings import STRINGS, YAML_VALUES

ROOT = Path(__file__).resolve().parents[3]
BASES = ("cpu.yaml", "cpu.yaml", "default.yaml", "voyager-mydir.yaml", "baseline.yaml", "restricted.yaml")

# What must stand beside a place for the rest of the file to be right.
_BESIDE: dict[Place, dict[str, Any]] = {
    ("env", 0, "value"): {"name": "A"},
    ("env", 0, "valueFrom", KEY): {"env": [{"name": "A"}]},
    ("env", 0, "name"): {"value": "v"},
    ("host", "sockets"): {"coresPerSocket": 4},
    ("host", "coresPerSocket"): {"sockets": 1},
    ("worker", "volumes", 0, "hostPath", "path"): {"worker": {"volumes": [{"name": "v"}]}},
    ("worker", "volumes", 0, "configMap", "name"): {"worker": {"volumes": [{"name": "v"}]}},
    ("worker", "tolerations", 0, "value"): {"key": "k"},
    **{(name, "subPath"): {"pvc": "c"} for name in ("mydir", "dataset", "pretrained", "output")},
}
# Places within the parts that the schema leaves open, where people do write something.
_OPEN: tuple[Place, ...] = (
    ("worker", "podSpec", "priorityClassName"),
    ("worker", "podSpec", "hostname"),
    ("worker", "podSpec", "securityContext", "runAsUser"),
    ("launcher", "podSpec", "schedulerName"),
    ("worker", "tolerations", 0, "value"),
    ("worker", "tolerations", 0, "key"),
    ("worker", "volumes", 0, "hostPath", "path"),
    ("worker", "volumes", 0, "configMap", "name"),
    ("envFrom", 0, "secretRef", "name"),
    ("imagePullSecrets", 0, "name"),
    ("worker", "affinity", "nodeAffinity", KEY),
)
# Places that take nearly every text, so that it comes out in the manifest.
_FREE: tuple[Place, ...] = (
    *((name,) for name in ("python", "site", "dataset", "output", "pretrained", "mydir")),
    *(("train", "name"), ("annotations", KEY), ("env", 0, "value"), ("runPolicy", "schedulingPolicy", "queue")),
    *((role, part, KEY) for role in ("launcher", "worker") for part in ("annotations", "nodeSelector", "podSpec")),
    *((name, "subPath") for name in ("dataset", "output")),
    ("worker", "tolerations", 0, "value"),
    ("worker", "volumes", 0, "hostPath", "path"),
)
_FOLDERS = ("dataset", "output", "pretrained", "mydir")
_OTHERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 7, 2**31, 2**63, 10**30, 10**4000, 0.0, -0.0, 0.5, 1e-7, 1e300, 5e-324, True, False, None),
    *([], {}, [[]], [{}], [None], [1, "x"], {"a": None}, {"a": {"b": [1.5, True]}}, ["x"] * 300, {"k" * 300: 1}),
)


@dataclass
class Case:
    """One file, and what is known of it."""

    seed: int
    base: str
    text: bytes
    told: str
    written: dict[Place, Any] = field(default_factory=dict)
    """What was put in the file at each place; empty where only the text is known."""
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """For messages."""
        return f"seed {self.seed} over values/{self.base}: {self.told}"


def make_case(seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(f"values {seed}")
    base = chance.choice(BASES)
    kind = chance.choices((_fields, _snippet, _edited, _bytes, _setting), (50, 20, 20, 4, 6))[0]
    text, told, written, settings = kind(chance, base)
    return Case(seed, base, text, told, written, settings)


_Made = tuple[bytes, str, dict[Place, Any], tuple[tuple[str, str], ...]]


def _place(chance: random.Random) -> Place:
    """A place; a free map's key is hostile in every second case."""
    place = chance.choice(_FREE if chance.random() < 0.6 else (*places(), *_OPEN))
    hostile = chance.random() < 0.5
    return tuple(chance.choice(STRINGS) if part == KEY and hostile else part for part in place)


def _value(chance: random.Random) -> Any:
    match chance.random():
        case number if number < 0.7:
            return chance.choice(STRINGS)
        case number if number < 0.85:
            return random_text(chance)
        case _:
            return copy.deepcopy(chance.choice(_OTHERS))


def random_text(chance: random.Random) -> str:
    """Characters of all of Unicode, every kind as likely as another, mixed with pieces of the list."""
    spans = (
        (0, 0x20),
        (0x20, 0x7F),
        (0x20, 0x7F),
        (0x7F, 0x100),
        (0x100, 0x3000),
        (0xD7F0, 0x10000),
        (0x10000, 0x110000),
    )
    pieces = [chr(chance.randrange(*chance.choice(spans))) for _ in range(chance.randrange(1, 30))]
    if chance.random() < 0.5:
        pieces.insert(chance.randrange(len(pieces)), chance.choice(STRINGS)[:200])
    return "".join(pieces)


def _fields(chance: random.Random, _base: str) -> _Made:
    """Known values at one to three places, written by a real YAML or JSON writer."""
    written = {}
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place, value = _place(chance), _value(chance)
        rooted = place[0] in _FOLDERS and len(place) == 1 and isinstance(value, str) and chance.random() < 0.7
        written[place] = f"/{value}" if rooted else value
    data: dict[str, Any] = {}
    for place, value in written.items():
        if place[0] in data and not isinstance(data[str(place[0])], dict):
            continue
        for path, more in ((place, value), *_companions(place)):
            _lay(data, path, more)
    name, text = _written(chance, data)
    known = {place: value for place, value in written.items() if _holds(data, place, value)}
    return text, f"{name} {data!r:.300}", known, ()


def _companions(place: Place) -> list[tuple[Place, Any]]:
    beside = _BESIDE.get(place) or _BESIDE.get((*place[:-1], KEY)) or {}
    if place[0] in beside:
        return [(("worker", "volumes", 0, "name"), "v")] if place[0] == "worker" else [(("env", 0, "name"), "A")]
    return [((*place[:-1], name), value) for name, value in beside.items()]


def _lay(data: dict[str, Any], place: Place, value: Any) -> None:
    """Put a value into nested data, beside what is there."""
    target: Any = data
    for part, following in pairwise(place):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(part, int):
            if not target:
                target.append(empty)
            target = target[0]
        else:
            target = target.setdefault(part, empty)
        if not isinstance(target, type(empty)):
            return
    if isinstance(place[-1], int):
        target.append(value)
    else:
        target[place[-1]] = value


def _holds(data: Any, place: Place, value: Any) -> bool:
    for part in place:
        if not isinstance(data, (dict, list)) or (isinstance(data, dict) and part not in data):
            return False
        data = data[part]
    return bool(data == value and type(data) is type(value))


def _written(chance: random.Random, data: dict[str, Any]) -> tuple[str, bytes]:
    style = chance.choice((None, None, '"', "'", "|", ">", "json", "ascii json"))
    if style and "json" in style:
        text = json.dumps(data, ensure_ascii="ascii" in style, indent=chance.choice((None, 1)))
    else:
        options: dict[str, Any] = {"default_style": style} if style else {}
        flow = chance.choice((None, False, True))
        wide = chance.choice((10, 80, 10**6))
        text = yaml.safe_dump(data, allow_unicode=chance.random() < 0.5, default_flow_style=flow, width=wide, **options)
    return f"[{style}]", text.encode("utf-8", "surrogatepass")


def _snippet(chance: random.Random, _base: str) -> _Made:
    """A text in the manner of the YAML test suite, or a raw string, in the place of a value."""
    place = chance.choice((*places(), *_OPEN))
    value = chance.choice(YAML_VALUES) if chance.random() < 0.75 else chance.choice(STRINGS)
    lines, indent = [], 0
    for number, part in enumerate(place):
        if isinstance(part, int):
            lines[-1] += "\n" + "  " * indent + "-"
            indent += 1
        elif number and isinstance(place[number - 1], int):
            lines[-1] += f" {part}:"
        else:
            lines.append("  " * indent + f"{part}:")
            indent += 1
    shifted = value.replace("\n", "\n" + "  " * max(indent - 1, 0)) if chance.random() < 0.8 else value
    text = "\n".join(lines) + f" {shifted}\n"
    before = chance.choice(("", "", "# a comment\n", "nodes: 2\n", "%YAML 1.2\n---\n", "---\n", "\n\n"))
    after = chance.choice(("", "", "globalBatch: 512\n", "# end\n", "...\n"))
    return (before + text + after).encode("utf-8", "surrogatepass"), f"snippet {text!r:.300}", {}, ()


def _edited(chance: random.Random, base: str) -> _Made:
    """A shipped file with one to five slips of the finger."""
    text = (ROOT / "values" / base).read_text(encoding="utf-8")
    told = []
    for _ in range(chance.randrange(1, 6)):
        name, text = _edit(chance, text)
        told.append(name)
    return text.encode("utf-8", "surrogatepass"), f"edited: {', '.join(told)}", {}, ()


def _edit(chance: random.Random, text: str) -> tuple[str, str]:
    lines = text.splitlines(keepends=True) or ["\n"]
    number = chance.randrange(len(lines))
    if chance.random() < 0.8:  # most lines are comments, in which nothing can go wrong
        number = chance.choice([n for n, line in enumerate(lines) if not line.lstrip().startswith("#")] or [number])
    line = lines[number]
    column = chance.randrange(len(line))
    match chance.randrange(11):
        case 0:
            return f"line {number + 1} out", "".join(lines[:number] + lines[number + 1 :])
        case 1:
            return f"line {number + 1} twice", "".join([*lines[:number], line, *lines[number:]])
        case 2:
            return f"indent {number + 1}", "".join(
                [*lines[:number], chance.choice((" ", "\t", "   ")) + line, *lines[number + 1 :]]
            )
        case 3:
            changed = line[:column] + line[column + 1 :]
        case 4 | 5:
            changed = line[:column] + chance.choice(STRINGS)[:500] + line[column:]
        case 6:
            changed = line[:column] + chance.choice(":#-{}[],&*!|>'\"%@`?=<\\\t\0\r\ufeff") + line[column:]
        case 7:
            start, colon, _ = line.partition(":")
            changed = f"{start}{colon} {chance.choice((*YAML_VALUES, *STRINGS))}\n"
        case 8:
            changed = chance.choice(("0", "-1", "1e9", "99999999999", "no", '""', "~", "1" * 400)).join(line.split("1"))
        case 9:
            return "CRLF", text.replace("\n", "\r\n")
        case _:
            return "cut", "".join(lines[:number]) + line[:column]
    return f"line {number + 1}", "".join([*lines[:number], changed, *lines[number + 1 :]])


def _bytes(chance: random.Random, base: str) -> _Made:
    """What is not text at all, or text in another encoding."""
    text = (ROOT / "values" / base).read_text(encoding="utf-8")[: chance.randrange(1, 4000)]
    match chance.randrange(6):
        case 0:
            return text.encode("utf-16"), "UTF-16", {}, ()
        case 1:
            return f"{text}# é\n".encode("latin-1"), "latin-1", {}, ()
        case 2:
            return chance.randbytes(chance.randrange(1, 2000)), "random bytes", {}, ()
        case 3:
            return b"\xef\xbb\xbf\xef\xbb\xbf" + text.encode(), "two byte order marks", {}, ()
        case 4:
            place = chance.randrange(len(text))
            return text[:place].encode() + bytes([chance.randrange(256)]) + text[place:].encode(), "a byte", {}, ()
        case _:
            return b"\0" * chance.randrange(0, 100), "NULs or nothing", {}, ()


def _setting(chance: random.Random, _base: str) -> _Made:
    """A raw string by --set; a command line cannot hold NUL, nor a surrogate but for a byte that is no UTF-8."""
    place = tuple(part for part in chance.choice(places()) if not isinstance(part, int))
    key = ".".join(str(part) for part in place)
    value = chance.choice(STRINGS).replace("\0", "")
    return (
        b"",
        f"--set {key}={value!r:.200}",
        {} if value[:1] in ("{", "[") else {place: value},
        (("--set", f"{key}={value}"),),
    )
