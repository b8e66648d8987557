# SPDX-License-Identifier: Apache-2.0
"""What a message to a user must not contain: Python's own words, a traceback, or a sentence of a library."""

from __future__ import annotations

import re

from mpikit.diagnostics import Diagnostic

_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`')
_SINGLE = re.compile(r"(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)")
_CHOICES = re.compile(r"one of [\w ,]+|(cleanPodPolicy|dnsPolicy|mountPropagation): None")

PYTHON = {
    r"<class\b|<[\w.]+ object\b|\bobject at 0x": "an object of Python",
    r"\bTraceback\b|\bFile \"[^\"]*\", line \d": "a traceback",
    r"(?<!\w)\['|\{'|(?<!\w)\('": "a list, map, tuple or bytes of Python",
    r"\b(PosixPath|datetime\.\w+|Fraction|Decimal|OrderedDict|Ellipsis|Origin|Diagnostic)\(": "a value of Python",
    r"\b[A-Z]\w*(Error|Exception|Warning)\(": "an exception of Python",
    r"\bNoneType\b|\b(str|int|dict|list|bool|float|tuple|bytes) object\b": "a type of Python",
}
LIBRARIES = {
    r"\[Errno -?\d+\]|\bErrno\b": "Python's os module",
    r"\bHTTPS?ConnectionPool\b|Max retries exceeded|NewConnectionError|Remote end closed": "urllib3",
    r"Input should be|Field required|Extra inputs are not permitted|validation errors? for|Value error,": "pydantic",
    r"while (scanning|parsing|constructing)|could not find expected|mapping values are not allowed": "yaml",
    r"expected <|did not find expected|found character .* that cannot start|found undefined": "yaml",
    r"Expecting (value|property name|',' delimiter)|Extra data: line|Unterminated string": "json",
    r"invalid literal for|could not convert string|unsupported operand|unhashable type|index out of range": "Python",
    r"codec can't (de|en)code|invalid start byte|certificate verify failed|\[SSL": "Python",
    r"No closing quotation|No escaped character": "shlex",
}
WORDS = {r"\bNone\b": "None", r"\b(True|False)\b": "a boolean of Python", r"\brepr\b": "repr"}


def lint(one: Diagnostic) -> list[str]:
    """Return what is wrong with a diagnostic: its words, or that there is no message or no fix."""
    found = [] if one.fix or one.severity == "ok" else [f"no fix: {one.key}: {one.message}"]
    found += [] if one.message.strip() else [f"no message: {one.key}"]
    return found + words_of(one.message) + words_of(one.fix)


def words_of(text: str) -> list[str]:
    """Return the words in a text that are not for a user; what stands in quotes is somebody else's."""
    unquoted = _DOUBLE.sub('""', text)
    bare = _CHOICES.sub("", _SINGLE.sub("''", unquoted))
    found = [what for pattern, what in {**PYTHON, **LIBRARIES}.items() if re.search(pattern, unquoted)]
    found += [what for pattern, what in WORDS.items() if re.search(pattern, bare)]
    return [f"{what}: {text}" for what in found]
