# SPDX-License-Identifier: Apache-2.0
"""HTML and SVG elements as text. What is not Markup is escaped, so a text of a run can never become an element."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mpikit.diagnostics import one_line

VOID = {"meta", "img", "br"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable["Child"] | None


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return <name attributes>children</name>. Attributes that are None are left out; class_ is class, a_b is a-b."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Return the children one after the other."""
    return Markup("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return _text(child) if isinstance(child, str) else joined(*child)


def _text(value: object) -> str:
    """Return a text without markup; control characters and marks of direction become visible."""
    return escape(one_line(f"{value:.6g}" if isinstance(value, float) else str(value)))
