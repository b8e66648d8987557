# SPDX-License-Identifier: Apache-2.0
"""What YAML readers make of a word without quotes; the words that they take differently are traps, and are named.

The readers: YAML 1.1 as PyYAML has it, and kubectl's Go reader, which takes the numbers of YAML 1.2 and y and n too.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from mpikit.diagnostics import shortened

INT64_MAX = 2**63 - 1  # past it YAML readers differ: some keep the integer, some make it a float
SHOWN = 40  # characters of a word in a message

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)")
_TEXT_TO_SOME = re.compile(r"[yYnN]|[-+]?0o[0-7]+|[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_RESOLVER = yaml.resolver.Resolver()
_ARTICLE = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "null": "null",
    "timestamp": "a date",
    "value": "a default value",
    "merge": "a merge key",
    "trap": "text, where other readers do not",
}


class Trap(Exception):
    """A word that is not one thing to every reader: what they make of it, and what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message, self.fix = message, fix


def scalar(event: Any) -> Any:
    """Return the value of a scalar event; a Trap if readers differ on it."""
    text = str(event.value)
    match _kind(event):
        case "str":
            return text
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" if _INTEGER.fullmatch(text):
            return integer(text)
        case "float" if _FLOAT.fullmatch(text):
            return finite(text)
        case kind:
            raise Trap(f"YAML 1.1 reads {_short(text)} as {_made_of(kind, text)}", _instead(kind, text))


def key_trap(event: Any) -> Trap | None:
    """Return what is wrong with a scalar as the key of a map, or None for a text."""
    kind = _kind(event)
    return None if kind == "str" else Trap(f"YAML 1.1 reads this key as {_ARTICLE[kind]}", "put it in quotes")


def _kind(event: Any) -> str:
    """Return str, int, float, bool, null or another type of YAML 1.1; "trap" where YAML 1.2 reads something else."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]  # PyYAML
    kind = str(tag).rsplit(":", 1)[-1]
    if kind == "str" and event.implicit[0] and _TEXT_TO_SOME.fullmatch(event.value):
        return "float" if _FLOAT.fullmatch(event.value) else "trap"  # 1e3 is a number to all but YAML 1.1
    return kind


def integer(text: str) -> int:
    """Return a decimal number as an integer of 64 bits; else a Trap."""
    if len(text) > len(str(-INT64_MAX)) or abs(int(text)) > INT64_MAX:
        raise Trap(f"{_short(text)} is beyond 64 bits", "write a smaller number, or put it in quotes if you mean text")
    return int(text)


def finite(text: str) -> float:
    """Return a number with a fraction or an exponent, Infinity and NaN being Traps."""
    number = float(text)
    if not math.isfinite(number):
        raise Trap(
            f"{_short(text)} is not a finite number", "write a finite number, or put it in quotes if you mean text"
        )
    return number


def _short(text: str) -> str:
    return shortened(text, SHOWN)


def _made_of(kind: str, text: str) -> str:
    """Return what a YAML 1.1 reader makes of a word that others read in another way."""
    match kind:
        case "trap" if text.lower() in ("y", "n"):
            return f"text and other readers as {str(text.lower() == 'y').lower()}"
        case "trap":
            return "text and other readers as a number"
        case "int" | "float" | "bool":
            return f"the {'boolean' if kind == 'bool' else 'number'} {_constructed(kind, text)}"
    return _ARTICLE.get(kind, f"a {kind}")


def _constructed(kind: str, text: str) -> str:
    node = yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", text)
    try:
        return _short(str(yaml.SafeLoader("").construct_object(node)).lower())
    except ValueError:  # 0x_, or more digits than Python turns into text
        return "it cannot name"


def _instead(kind: str, text: str) -> str:
    quoted = f'"{_short(text)}" in quotes if you mean text'
    match kind:
        case "trap" | "bool" if text.isalpha():
            return f"write true or false, or {quoted}"
        case "int" | "trap":
            return f"write a decimal number without leading zeros, or {quoted}"
        case "float" if text.lower().lstrip("+-") in (".inf", ".nan"):
            return "write a finite number"
        case "float":
            return f"write a plain decimal number such as 0.5, or {quoted}"
    return f'write "{_short(text)}" in quotes'
