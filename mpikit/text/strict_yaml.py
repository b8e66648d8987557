# SPDX-License-Identifier: Apache-2.0
"""Strict YAML: maps, lists and scalars that every YAML reader understands alike, with the place of each value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from mpikit.diagnostics import Diagnostic
from mpikit.text.input import MAX_BYTES
from mpikit.text.lenient_yaml import in_words
from mpikit.text.nested import Key, dotted
from mpikit.text.yaml_scalars import Trap, key_trap, scalar

MAX_DEPTH = 30  # deeper than any pod field; keeps hostile input from exhausting the stack
MAX_VALUES = 10_000  # of a values file; keeps hostile input from taking minutes
MAX_STREAM_VALUES = 100_000  # of a stream of manifests
MOST_CHARACTERS = 20  # errors reported of forbidden characters; a file of another kind has thousands

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What YAML 1.1 allows nowhere or takes for a line break that others do not know; and the mark that may only begin.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_NAMES = {0: "a NUL character", 0xFEFF: "a byte order mark within the text", 0x2028: "a line break of Unicode"}
_NAMES |= {0x2029: _NAMES[0x2028], 0x85: _NAMES[0x2028]}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: file or flag, its line and column (0 for a flag), and the text as it stood there."""

    source: str
    line: int = 0
    column: int = 0
    raw: str = ""
    plain: bool = False
    """Written without quotes in YAML, so that YAML chose its type."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(slots=True)
class Document:
    """What a text says: nested data, the origin of each key, and what was wrong with the rest."""

    data: Any = None
    origins: dict[Key, Origin] = field(default_factory=dict)
    faults: list[Diagnostic] = field(default_factory=list)


def read_yaml(text: str, source: str, most: int = MAX_VALUES) -> Document:
    """Return the one document in `text`; whatever cannot be read is left out and reported among its faults."""
    first, *more = read_all(text, source, most)
    if more:
        where = str(more[0].origins.get((), source))
        first.faults.append(
            Diagnostic("", where, "a second document", "keep one document a file: take out the line ---")
        )
    return first


def read_all(
    text: str, source: str, most: int = MAX_STREAM_VALUES, builder: type[Builder] | None = None
) -> list[Document]:
    """Return all documents in `text`, at least one; a text that is not YAML ends with a document that says so.

    `most` bounds the values in it; `builder` is another reader than the strict one.
    """
    documents = [Document()]
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        documents[0].faults.append(Diagnostic("", source, f"longer than {MAX_BYTES >> 20} MiB", "give a smaller file"))
        return documents
    documents[0].faults += _forbidden(text.removeprefix("\ufeff"), source)
    if documents[0].faults:
        return documents
    events = yaml.parse(text, Loader=_Loader)
    try:
        for number, document in enumerate((builder or Builder)(events, source, most).documents()):
            documents[number:] = [document]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = in_words(error.problem or error.context or "")
        documents[-1].faults.append(
            Diagnostic("", _place(source, mark), f"not YAML: {problem}", _hint(text, mark, problem))
        )
    except yaml.YAMLError:
        message = "not YAML: it contains characters that YAML does not allow"
        documents[-1].faults.append(Diagnostic("", source, message, "save it as UTF-8 text"))
    return documents


def _place(source: str, mark: Any) -> str:
    """Return file:line:column of a mark, counted from 1."""
    return f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source


def _forbidden(text: str, source: str) -> list[Diagnostic]:
    """Return the first characters that cannot stand in a YAML text, each with its name and place."""
    faults: list[Diagnostic] = []
    for found in _FORBIDDEN.finditer(text):
        code, start = ord(found[0]), text.rfind("\n", 0, found.start()) + 1
        name = _NAMES.get(code, "a lone surrogate" if 0xD800 <= code <= 0xDFFF else "a control character")
        name = "a noncharacter" if code in (0xFFFE, 0xFFFF) else name
        where = f"{source}:{text.count(chr(10), 0, start) + 1}:{found.start() - start + 1}"
        escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
        fix = "remove it" if code in (0, 0xFEFF) or 0xD800 <= code <= 0xDFFF else f'remove it, or write "{escape}"'
        faults.append(Diagnostic("", where, f"{name} (U+{code:04X})", fix))
        if len(faults) == MOST_CHARACTERS:
            break
    return faults


def _hint(text: str, mark: Any, problem: str) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces: YAML does not allow tabs"
    if "nest" in problem or "more than" in problem:
        return "write less: a values file is a page of text"
    if "escape" in problem:
        return "in double quotes \\ starts an escape: double it, use single quotes, or write the character itself"
    return "check the quotes, the colon and the indent of this line and of the one above"


class SkipValue(Exception):
    """A value that is left out because its fault has been reported."""


class Builder:
    """Builds plain data out of YAML events; events show anchors, tags and duplicate keys, which loaders hide."""

    def __init__(self, events: Iterator[Any], source: str, most: int) -> None:
        self.events = events
        self.source = source
        self.most, self.left = most, most
        self.document, self.shares = Document(), False

    def documents(self) -> Iterator[Document]:
        """Yield each document before it is filled, so that it keeps what was read before a syntax error."""
        next(self.events)  # stream start
        while not isinstance(next(self.events), yaml.StreamEndEvent):
            self.document, self.shares = Document(), False
            yield self.document
            try:
                self.document.data = self.value(next(self.events), ())
            except SkipValue:
                self.document.data = None
            next(self.events)  # document end

    def fault(self, key: Key, event: Any, message: str, fix: str) -> None:
        self.document.faults.append(Diagnostic(dotted(key), _place(self.source, event.start_mark), message, fix))

    def value(self, event: Any, key: Key) -> Any:
        """Return the value that starts with `event`, and consume its events. Raises SkipValue if it has an error."""
        if isinstance(event, yaml.AliasEvent):
            self.share(key, event, f"an alias (*{event.anchor})")
            raise SkipValue
        usable = self.check_node(event, key)
        self.document.origins[key] = self.origin(event)
        built = self.node(event, key)
        if not usable:
            raise SkipValue
        return built

    def check_node(self, event: Any, key: Key) -> bool:
        if event.anchor:
            self.share(key, event, f"an anchor (&{event.anchor})")
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.fault(key, event, f"a tag ({tag})", "take the tag out; quote the value to make it text")
        return not (event.anchor or event.tag)

    def share(self, key: Key, event: Any, what: str) -> None:
        """Report the first anchor or alias of a document; a text that has one tends to have many."""
        if not self.shares:
            self.shares = True
            self.fault(key, event, what, "write values out; anchors and aliases are not read, here and below")

    def origin(self, event: Any) -> Origin:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.ScalarEvent):
            return Origin(self.source, line, column, event.value, event.implicit[0])
        return Origin(self.source, line, column)

    def node(self, event: Any, key: Key) -> Any:
        self.left -= 1
        if len(key) > MAX_DEPTH or self.left < 0:
            problem = f"more than {self.most} values" if self.left < 0 else f"nested deeper than {MAX_DEPTH}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        match event:
            case yaml.MappingStartEvent():
                return self.mapping(key)
            case yaml.SequenceStartEvent():
                return self.sequence(key)
            case _:
                return self.scalar(event, key)

    def mapping(self, key: Key) -> dict[str, Any]:
        built: dict[str, Any] = {}
        first: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            name = self.name(event, key)
            if name is None:
                self.drop(next(self.events))
                continue
            inner = (*key, name)
            if name in first:
                self.fault(inner, event, f"given twice (first on line {first[name]})", "keep one of the two lines")
                self.drop(next(self.events))
                continue
            first[name] = event.start_mark.line + 1
            try:
                built[name] = self.value(next(self.events), inner)
            except SkipValue:
                continue
            self.point_at(inner, event)
        return built

    def point_at(self, key: Key, event: Any) -> None:
        """Point at the key: a block value is on the line below."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        self.document.origins[key] = replace(self.document.origins[key], line=line, column=column)

    def name(self, event: Any, key: Key) -> str | None:
        """Return the text of a map's key, or None (reported) if it is no plain text."""
        if not isinstance(event, yaml.ScalarEvent):
            self.fault(key, event, "a key that is not text", "write NAME: VALUE")
            self.drop(event)
            return None
        if event.value == "<<" and event.implicit[0]:
            self.fault(key, event, "a merge key (<<)", "write the values out; merge keys are not read")
            return None
        if not self.check_node(event, key):
            return None
        trap = key_trap(event)
        if trap:
            self.fault((*key, event.value), event, trap.message, trap.fix)
            return None
        return str(event.value)

    def sequence(self, key: Key) -> list[Any]:
        built: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            try:
                built.append(self.value(event, (*key, len(built))))
            except SkipValue:
                continue
        return built

    def drop(self, event: Any) -> None:
        """Consume a value that is not needed, with everything below it."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = next(self.events)

    def scalar(self, event: Any, key: Key) -> Any:
        try:
            return scalar(event)
        except Trap as trap:
            self.fault(key, event, trap.message, trap.fix)
            raise SkipValue from None
