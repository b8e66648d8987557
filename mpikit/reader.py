"""Strict YAML: maps, lists and scalars that every YAML reader understands alike, with the place of each value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from mpikit.errors import Fault

MAX_BYTES = 1 << 20  # a values file is a page of text; more is a mistake, such as a dataset's own file
MAX_DEPTH = 30  # deeper than any pod field; keeps hostile input from exhausting the stack

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]*([eE][-+]?[0-9]+)?")
_RESOLVER = yaml.resolver.Resolver()

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: the file or flag, its line (0 for a flag), and the text as it stood there."""

    source: str
    line: int = 0
    raw: str = ""
    plain: bool = False
    """Written without quotes in YAML, so that YAML chose its type."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(slots=True)
class Document:
    """What a text says: nested data, the origin of each key, and what was wrong with the rest."""

    data: Any = None
    origins: dict[Key, Origin] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def dotted(key: Key) -> str:
    """A key as the user writes it: `launcher.tolerations[0].key`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(text: str, source: str) -> Document:
    """The one document in `text`; whatever cannot be read is left out and reported among its faults."""
    first, *more = read_all(text, source)
    if more:
        where = str(more[0].origins.get((), source))
        first.faults.append(Fault("", where, "a second document", "keep one document a file: take out the line ---"))
    return first


def read_all(text: str, source: str) -> list[Document]:
    """All documents in `text`, at least one; a text that is not YAML ends with a document that says so."""
    documents = [Document()]
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        documents[0].faults.append(Fault("", source, f"longer than {MAX_BYTES >> 20} MiB", "give a smaller file"))
        return documents
    try:
        for number, document in enumerate(_Builder(yaml.parse(text, Loader=_Loader), source).documents()):
            documents[number:] = [document]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        documents[-1].faults.append(Fault("", where, f"not YAML: {error.problem or error.context}", _hint(text, mark)))
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        documents[-1].faults.append(Fault("", source, f"not YAML: {problem}", "save it as UTF-8 text"))
    return documents


def _hint(text: str, mark: Any) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, YAML takes no tabs"
    return "check the quotes, the colon and the indent of this line and of the one above"


class _Skip(Exception):
    """A value that is left out because its fault has been reported."""


class _Builder:
    """Builds plain data out of YAML events; events show anchors, tags and duplicate keys, which loaders hide."""

    def __init__(self, events: Iterator[Any], source: str) -> None:
        self.events = events
        self.source = source
        self.document = Document()

    def documents(self) -> Iterator[Document]:
        """Each document; it is handed out before it is filled, so that it keeps what was read before a syntax error."""
        next(self.events)  # stream start
        while not isinstance(next(self.events), yaml.StreamEndEvent):
            self.document = Document()
            yield self.document
            try:
                self.document.data = self.value(next(self.events), ())
            except _Skip:
                self.document.data = None
            next(self.events)  # document end

    def fault(self, key: Key, event: Any, message: str, fix: str) -> None:
        where = f"{self.source}:{event.start_mark.line + 1}"
        self.document.faults.append(Fault(dotted(key), where, message, fix))

    def value(self, event: Any, key: Key) -> Any:
        """The value that starts with `event`. Always consumes all of its events; raises _Skip if it has a fault."""
        if isinstance(event, yaml.AliasEvent):
            self.fault(key, event, f"an alias (*{event.anchor})", "write the value out; aliases are not read")
            raise _Skip
        usable = self.check_node(event, key)
        self.document.origins[key] = self.origin(event)
        built = self.node(event, key)
        if not usable:
            raise _Skip
        return built

    def check_node(self, event: Any, key: Key) -> bool:
        if event.anchor:
            self.fault(key, event, f"an anchor (&{event.anchor})", "write the value out; anchors are not read")
        if event.tag:
            self.fault(key, event, f"a tag ({event.tag})", "take the tag out; quote the value to make it text")
        return not (event.anchor or event.tag)

    def origin(self, event: Any) -> Origin:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            return Origin(self.source, line, event.value, event.implicit[0])
        return Origin(self.source, line)

    def node(self, event: Any, key: Key) -> Any:
        if len(key) > MAX_DEPTH:
            where = f"{self.source}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {MAX_DEPTH} at {where}", problem_mark=event.start_mark
            )
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
            except _Skip:
                continue
            self.mark_line(inner, event)
        return built

    def mark_line(self, key: Key, event: Any) -> None:
        """Point at the line of the key: that of a block value is the line below."""
        origin = self.document.origins[key]
        self.document.origins[key] = Origin(origin.source, event.start_mark.line + 1, origin.raw, origin.plain)

    def name(self, event: Any, key: Key) -> str | None:
        """The text of a map's key, or None (reported) if it is no plain text."""
        if not isinstance(event, yaml.ScalarEvent):
            self.fault(key, event, "a key that is not text", "write NAME: VALUE")
            self.drop(event)
            return None
        if event.value == "<<" and event.implicit[0]:
            self.fault(key, event, "a merge key (<<)", "write the values out; merge keys are not read")
            return None
        resolved = _tag(event)
        if resolved != "str":
            self.fault((*key, event.value), event, f"YAML reads this key as {_ARTICLE[resolved]}", "put it in quotes")
            return None
        return str(event.value)

    def sequence(self, key: Key) -> list[Any]:
        built: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            try:
                built.append(self.value(event, (*key, len(built))))
            except _Skip:
                continue
        return built

    def drop(self, event: Any) -> None:
        """Consume a value that is not wanted, with all that stands below it."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = next(self.events)

    def scalar(self, event: Any, key: Key) -> Any:
        text = event.value
        match _tag(event):
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case "float" if _FLOAT.fullmatch(text):
                return float(text)
            case kind:
                self.fault(key, event, f"YAML 1.1 reads {text} as {_made_of(kind, text)}", _instead(kind, text))
                raise _Skip


_ARTICLE = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "null": "null",
    "timestamp": "a date",
    "value": "a default value",
    "merge": "a merge key",
}


def _tag(event: Any) -> str:
    """The last word of the tag that YAML 1.1 gives a scalar: str, int, float, bool, null, timestamp, ..."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]  # PyYAML
    return str(tag).rsplit(":", 1)[-1]


def _made_of(kind: str, text: str) -> str:
    """What a YAML 1.1 reader makes of a scalar that others read in another way."""
    if kind in ("int", "float", "bool"):
        return f"the {'boolean' if kind == 'bool' else 'number'} {_construct(kind, text)}"
    return _ARTICLE.get(kind, f"a {kind}")


def _construct(kind: str, text: str) -> str:
    node = yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", text)
    try:
        return str(yaml.SafeLoader("").construct_object(node)).lower()
    except ValueError:
        return "it cannot name"


def _instead(kind: str, text: str) -> str:
    if kind == "bool":
        return f'write true or false, or "{text}" in quotes if text is meant'
    if kind == "int":
        return f'write a decimal number without leading zeros, or "{text}" in quotes if text is meant'
    if kind == "float" and text.lower().lstrip("+-") in (".inf", ".nan"):
        return "write a finite number"
    return f'write "{text}" in quotes'
