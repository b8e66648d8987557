# SPDX-License-Identifier: Apache-2.0
"""Read YAML and JSON as kubectl does: anchors, merge keys, octal numbers, the words of YAML 1.1 in a Go reader.

Values files have the strict reader; other people's manifests have this one. Source: goyaml.v2 of sigs.k8s.io/yaml,
resolve.go and decode.go, and yaml.YAMLOrJSONDecoder of k8s.io/apimachinery.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from mpikit.text.nested import Key
from mpikit.text.strict_yaml import MAX_DEPTH, MAX_STREAM_VALUES, Builder, Document, SkipValue, read_all
from mpikit.text.yaml_scalars import Trap, finite, integer

_WORDS: dict[str, Any] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= {form: True for word in ("y", "yes", "true", "on") for form in (word, word.capitalize(), word.upper())}
_WORDS |= {form: False for word in ("n", "no", "false", "off") for form in (word, word.capitalize(), word.upper())}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASES = {16: re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 2: re.compile(r"[-+]?0[bB][01]+")}
_BASES |= {8: re.compile(r"[-+]?0[oO]?[0-7]+")}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CORE = "tag:yaml.org,2002:"
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB]\w\w)\\u([dD][c-fC-F]\w\w)")


def read_as_kubectl(text: str, source: str) -> list[Document]:
    """Return all documents of a stream, as `kubectl apply -f` reads them."""
    return read_all(_json_as_yaml(text), source, MAX_STREAM_VALUES, _Lenient)


def plain(text: str) -> Any:
    """Return what kubectl makes of a word without quotes. Raises Trap for a number that JSON does not have."""
    if text in _WORDS:
        return _WORDS[text]
    bare = text.replace("_", "") if text[0] in "+-0123456789" else text
    if _INTEGER.fullmatch(bare):
        return integer(bare)
    for base, pattern in _BASES.items():
        if pattern.fullmatch(bare):
            return int(bare, base)
    if _FLOAT.fullmatch(bare):
        number = finite(bare)
        return int(number) if "." not in bare and number.is_integer() and abs(number) < 1 << 53 else number
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise Trap(f"{text} is not a finite number", "write a finite number")
    return text


def _json_as_yaml(text: str) -> str:
    """Return JSON as YAML: a pair of surrogates is one character, and a stream of objects has separators."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return text
    return _separated(_SURROGATES.sub(_joined, text))


def _joined(pair: re.Match[str]) -> str:
    high, low = int(pair[2], 16), int(pair[3], 16)
    return f"{pair[1]}\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}"


def _separated(text: str) -> str:
    """Put --- between the objects of a JSON stream; a text that is not JSON stays."""
    pieces: list[str] = []
    end = 0
    while text[end:].strip():
        start = end + len(text[end:]) - len(text[end:].lstrip())
        try:
            end = json.JSONDecoder(strict=False).raw_decode(text.replace("\\U", "\\u"), start)[1]
        except (ValueError, RecursionError):
            return text
        gap = text[end:][: len(text[end:]) - len(text[end:].lstrip())]
        pieces.append(text[start:end] if pieces else text[:end])
        pieces.append(gap.rpartition("\n")[0] + "\n--- ")
    return "".join(pieces[:-1])


class _Lenient(Builder):
    """Builds what kubectl's reader builds; the bounds on size and depth also hold for what aliases repeat."""

    def __init__(self, events: Iterator[Any], source: str, most: int) -> None:
        super().__init__(events, source, most)
        self.anchors: dict[str | None, Any] = {}

    def value(self, event: Any, key: Key) -> Any:
        if not key:  # a new document
            self.anchors = {}
        if isinstance(event, yaml.AliasEvent):
            self.document.origins[key] = self.origin(event)
            return self.alias(event, key)
        built = super().value(event, key)
        if event.anchor:
            self.anchors[event.anchor] = built
        return built

    def check_node(self, event: Any, key: Key) -> bool:
        tag = (event.tag or "").removeprefix(_CORE)
        if (event.tag and tag == event.tag != "!") or tag in ("binary", "set", "omap"):
            self.fault(key, event, f"a tag ({event.tag.replace(_CORE, '!!')})", "remove the tag")
            return False
        return True

    def alias(self, event: Any, key: Key) -> Any:
        """Return the value of an anchor, which counts again at each place."""
        if event.anchor not in self.anchors:
            fix = f"write &{event.anchor} before the value that it repeats"
            self.fault(key, event, f"no anchor &{event.anchor} above", fix)
            raise SkipValue
        value = self.anchors[event.anchor]
        size, depth = _measured(value)
        self.left -= size
        if self.left < 0 or len(key) + depth > MAX_DEPTH:
            problem = f"more than {self.most} values" if self.left < 0 else f"nested deeper than {MAX_DEPTH}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return value

    def name(self, event: Any, key: Key) -> str | None:
        if isinstance(event, yaml.AliasEvent) and isinstance(self.anchors.get(event.anchor), str):
            return str(self.anchors[event.anchor])
        if not isinstance(event, yaml.ScalarEvent):
            return super().name(event, key)
        named = plain(event.value) if event.implicit[0] else event.value
        if named is None:
            self.fault((*key, event.value), event, "a key that is null", "put it in quotes, or remove the line")
            return None
        if event.anchor:
            self.anchors[event.anchor] = named
        return json.dumps(named) if isinstance(named, (bool, int, float)) else str(event.value)

    def mapping(self, key: Key) -> dict[str, Any]:
        built = super().mapping(key)
        if "<<" not in built:
            return built
        merged = built.pop("<<")
        sources = merged if isinstance(merged, list) else [merged]
        below = {name: item for one in reversed(sources) if isinstance(one, dict) for name, item in one.items()}
        return {**below, **built}

    def scalar(self, event: Any, key: Key) -> Any:
        tag = (event.tag or "").removeprefix(_CORE)
        if event.tag == "!" or not (event.implicit[0] or tag in ("int", "float", "bool", "null")):
            return str(event.value)
        try:
            return plain(event.value)
        except Trap as trap:
            self.fault(key, event, trap.message, trap.fix)
            raise SkipValue from None


def _measured(value: Any) -> tuple[int, int]:
    """Return the number of values in a tree, and its depth."""
    below = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    found = [_measured(item) for item in below]
    return 1 + sum(size for size, _ in found), 1 + max((depth for _, depth in found), default=0)
