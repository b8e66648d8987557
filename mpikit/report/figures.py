# SPDX-License-Identifier: Apache-2.0
"""What a report consists of, as plain data: sections with facts, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

MOST_ROWS = 100
NUMBER = re.compile(r"[\d,.+e-]*( %| s| min| days| h( \d+ min)?)?")
"""A cell that stands to the right."""
Cell = str
T = TypeVar("T")
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under their heads; `total` counts also the rows that are left out."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table of the first MOST_ROWS rows."""
    found = [tuple(row) for row in rows]
    return Table(tuple(heads), tuple(found[:MOST_ROWS]), len(found))


def spread(found: Sequence[T], most: int = MOST_ROWS) -> list[T]:
    """Return at most `most` of them, evenly chosen, with the first and the last."""
    if len(found) <= most:
        return list(found)
    return [found[round(place * (len(found) - 1) / (most - 1))] for place in range(most)]


@dataclass(frozen=True, slots=True)
class Line:
    """Points (step, value) in order of their steps."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over the steps on one vertical axis; marks are steps at which an attempt began."""

    title: str
    lines: tuple[Line, ...]
    last: float
    """The step at which the axis ends, the same in all curves of a page; it begins at 0."""
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Bars:
    """One horizontal bar for each (label, value, note), from 0 to `most`."""

    title: str
    bars: tuple[tuple[str, float, str], ...]
    most: float


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar of several parts (label, value, text)."""

    title: str
    parts: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A row of a timeline: seconds since the first start."""

    label: str
    start: float
    end: float
    note: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Attempts one below the other on one axis of time."""

    title: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """Points (x, y, label) and a limit, below which they are marked and named."""

    title: str
    across: str
    dots: tuple[tuple[float, float, str], ...]
    limit: float
    limit_name: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG and what is known of it."""

    jpeg: bytes
    alt: str
    caption: str
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Pictures:
    """A contact sheet."""

    title: str
    pictures: tuple[Picture, ...]
    large: bool = False


Figure = Lines | Bars | Stack | Timeline | Dots | Pictures


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure and the same as a table; or only one of both."""

    figure: Figure | None
    table: Table | None
    title: str = ""


@dataclass(slots=True)
class Section:
    """A part of the page; one without content says why in `missing`."""

    key: str
    title: str
    lead: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    """A list of sentences."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    missing: str = ""
    side_by_side: bool = False
    """Whether its facts and figures are small enough to stand beside each other."""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    verdict: str
    good: bool | None
    """Whether the run is complete; None where that is still open."""
    sections: tuple[Section, ...]
