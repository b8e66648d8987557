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

_MARK = re.compile(r"\{\{-?\s*[^{}\s][^{}]*\}\}|\{%-?\s*\w[^%]*%\}")  # {{ x }}, {% if x %}
_UNREAD = ("not YAML", "a key that is not text")
_FREE = ("command", "args", "data", "stringData", "binaryData", "annotations", "env")  # text of other programs
RENDERED = "the rendered manifest"  # the source of a manifest that this kit has rendered


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stream of manifests says; `source` is its file, as faults name it."""

    source: str
    documents: tuple[Document, ...] = ()

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
    place = _template_mark(text, documents)
    if place is None:
        return Manifest(source, documents)
    where = f"{source}:{text.count(chr(10), 0, place) + 1}:{place - text.rfind(chr(10), 0, place)}"
    fix = "helm template RELEASE CHART | python generate.py check --manifest -"
    message = "this is a template: render it first"
    return Manifest(source, (Document(faults=[Diagnostic("", where, message, fix)]),))


def joined(manifests: list[Manifest]) -> Manifest:
    """Return several files as one stream."""
    return Manifest(", ".join(one.source for one in manifests), tuple(d for one in manifests for d in one.documents))


def _unpacked(document: Document) -> Iterator[Document]:
    """Yield the items of a List, each with its places, or the document itself."""
    items = at(document.data, "items")
    if not (str(at(document.data, "kind")).endswith("List") and isinstance(items, list)):
        yield document
        return
    yield Document(faults=document.faults)
    places: list[dict[Key, Origin]] = [{} for _ in items]
    for key, origin in document.origins.items():
        if key[:1] == ("items",) and len(key) > 1 and int(key[1]) < len(items):
            places[int(key[1])][key[2:]] = origin
    for item, origins in zip(items, places, strict=True):
        yield from _unpacked(Document(item, origins))


def _template_mark(text: str, documents: tuple[Document, ...]) -> int | None:
    """Return where a Helm or Jinja template has its first mark; None for a manifest.

    Programs in a manifest's command, env, annotations or ConfigMap may contain such marks.
    """
    mark = _MARK.search(text)
    if mark is None:
        return None
    unread = any(one.message.startswith(_UNREAD) for document in documents for one in document.faults)
    return mark.start() if unread or any(_has_mark(one.data) for one in documents) else None


def _has_mark(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_MARK.search(name) or (name not in _FREE and _has_mark(one)) for name, one in value.items())
    if isinstance(value, list):
        return any(map(_has_mark, value))
    return isinstance(value, str) and bool(_MARK.search(value))
