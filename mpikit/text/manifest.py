# SPDX-License-Identifier: Apache-2.0
"""A stream of Kubernetes manifests, parsed once: its objects, and the place of each value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpikit.diagnostics import Diagnostic
from mpikit.text.kubectl_yaml import read_as_kubectl
from mpikit.text.nested import Key, at, dotted
from mpikit.text.strict_yaml import Document, Origin

# {{ x }}, {% if x %}, ${X}, $X; and not $(X), which Kubernetes expands
_MARK = re.compile(r"\{\{-?\s*[^{}\s][^{}]*\}\}|\{%-?\s*\w[^%]*%\}|\$\{[A-Za-z_]\w*[^}\n]*\}|\$[A-Z][A-Z0-9_]+\b")
_JOB_TEXT = re.compile(r"""^\s*["']?kind["']?:\s*["']?MPIJob\b""", re.MULTILINE)
_UNREAD = ("not YAML", "a key that is not text")
_FREE = ("command", "args", "data", "stringData", "binaryData", "annotations", "env")  # text of other programs
TEMPLATE = "this is a template: render it first"
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")  # a name that a program replaces: JOB_NAME
RENDERED = "the rendered manifest"  # the source of a manifest that this kit has rendered


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stream of manifests says; `source` is its file, as faults name it."""

    source: str
    documents: tuple[Document, ...] = ()

    @property
    def is_template(self) -> bool:
        """Whether it is a template, or its MPIJob has a placeholder for a name."""
        names = [str(at(one.data, "metadata", "name")) for one in self.of_kind("MPIJob")]
        return any(one.message == TEMPLATE for one in self.faults) or any(map(_PLACEHOLDER.fullmatch, names))

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The documents that are maps, in their order."""
        return [one.data for one in self.documents if isinstance(one.data, dict)]

    @property
    def faults(self) -> list[Diagnostic]:
        """What could not be read."""
        return [fault for document in self.documents for fault in document.faults]

    def of_kind(self, kind: str) -> list[Document]:
        return [one for one in self.documents if at(one.data, "kind") == kind]

    def where(self, document: Document, key: str) -> str:
        """Return file:line:column of a dotted key, or of the nearest one above it."""
        places = {dotted(path): str(origin) for path, origin in document.origins.items()}
        while key not in places and key:
            key = re.sub(r"(\.[^.]*|\[\d+\]|^[^.]*)$", "", key)
        return places.get(key, self.source)


def read_manifest(text: str, source: str = RENDERED) -> Manifest:
    """Parse a stream of manifests as kubectl does; what cannot be read is left out and is among its faults."""
    documents = tuple(part for one in read_as_kubectl(text, source) for part in _unpacked(one))
    found = _template_mark(text, documents)
    if found is None:
        return Manifest(source, documents)
    place, mark = found
    where = f"{source}:{text.count(chr(10), 0, place) + 1}:{place - text.rfind(chr(10), 0, place)}"
    fault = Diagnostic("", where, TEMPLATE, _rendering(mark, source))
    return Manifest(source, (Document(faults=[fault]),))


def joined(manifests: list[Manifest]) -> Manifest:
    """Return several files as one stream."""
    return Manifest(", ".join(one.source for one in manifests), tuple(d for one in manifests for d in one.documents))


def _unpacked(document: Document) -> Iterator[Document]:
    """Yield the items of a List, each with its places, or the document itself."""
    items = at(document.data, "items")
    if not (str(at(document.data, "kind")).endswith("List") and isinstance(items, list)):
        yield document
        return
    yield Document(faults=[*document.faults, *_list_faults(document, items)])
    places: list[dict[Key, Origin]] = [{} for _ in items]
    for key, origin in document.origins.items():
        if key[:1] == ("items",) and len(key) > 1 and int(key[1]) < len(items):
            places[int(key[1])][key[2:]] = origin
    for item, origins in zip(items, places, strict=True):
        yield from _unpacked(Document(item, origins))


def _list_faults(document: Document, items: list[Any]) -> Iterator[Diagnostic]:
    """Yield what kubectl rejects of a List beside its objects."""
    if not at(document.data, "apiVersion"):
        yield Diagnostic("apiVersion", str(document.origins.get((), "")), "is missing", "write apiVersion: v1")
    for number, item in enumerate(items):
        if item is None:
            where = str(document.origins.get(("items", number), ""))
            yield Diagnostic(f"items[{number}]", where, "is empty", "remove the line")


def _template_mark(text: str, documents: tuple[Document, ...]) -> tuple[int, str] | None:
    """Return where a template has its first mark, and the mark; None for a manifest.

    Programs in a manifest's command, env, annotations or ConfigMap may contain such marks.
    """
    found = next((mark for one in documents if (mark := _mark_in(one.data))), "")
    unread = any(one.message.startswith(_UNREAD) for document in documents for one in document.faults)
    if not found and unread and (match := _MARK.search(text)):
        found = match[0]
    return (max(text.find(found), 0), found) if found else None


def _mark_in(value: Any) -> str:
    """Return the first mark of a template in a value, "" if there is none."""
    if isinstance(value, dict):
        named = (_mark_in(name) or ("" if name in _FREE else _mark_in(one)) for name, one in value.items())
        return next(filter(None, named), "")
    if isinstance(value, list):
        return next(filter(None, map(_mark_in, value)), "")
    mark = _MARK.search(value) if isinstance(value, str) else None
    return mark[0] if mark else ""


def _rendering(mark: str, source: str) -> str:
    """Return how to render a template, by its mark."""
    check = "python generate.py check --manifest -"
    if mark.startswith("$"):
        return f"envsubst < {source} | {check}"
    if re.search(r"\.(Values|Release|Chart)|include|toYaml", mark):
        return f"helm template RELEASE CHART | {check}"
    return f"render it with its own tool, such as helm template, and pipe the result to {check}"


def inner_jobs(manifest: Manifest, document: Document) -> Iterator[tuple[str, Manifest]]:
    """Yield each MPIJob within another object, with its key: a map, or a text such as a ConfigMap has."""
    yield from _inner(manifest.source, document, document.data, ())


def _inner(source: str, document: Document, value: Any, key: Key) -> Iterator[tuple[str, Manifest]]:
    if isinstance(value, dict) and key and value.get("kind") == "MPIJob":
        origins = {path[len(key) :]: origin for path, origin in document.origins.items() if path[: len(key)] == key}
        yield dotted(key), Manifest(source, (Document(value, origins),))
    elif isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _inner(source, document, item, (*key, name))
    elif isinstance(value, str) and _JOB_TEXT.search(value):
        inner = read_manifest(value, f"{source}, {dotted(key)}")
        if inner.faults or inner.of_kind("MPIJob"):
            yield dotted(key), inner
