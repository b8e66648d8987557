# SPDX-License-Identifier: Apache-2.0
"""A stream of Kubernetes manifests, parsed once: its objects, and the place of each value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mpikit.diagnostics import Diagnostic
from mpikit.text.nested import at, dotted
from mpikit.text.strict_yaml import Document, read_all

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
    """Parse a stream of manifests; what cannot be read is left out and is among its faults."""
    return Manifest(source, tuple(read_all(text, source)))
