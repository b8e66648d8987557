# SPDX-License-Identifier: Apache-2.0
"""Figures as SVG without scripts. Colours are classes of page.py's style; dashes, markers and words say the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpikit.diagnostics import shortened
from mpikit.report.curves import nice_ticks, short, whole_ticks
from mpikit.report.figures import Bars, Dots, Line, Lines, Stack, Timeline
from mpikit.report.markup import Child, Markup, element, joined
from mpikit.text.units import duration

SMALL = 380  # pixels of a figure that stands beside others
LEFT, RIGHT, BOTTOM = 52, 22, 34  # around the area of a plot
FEW_POINTS = 30  # of a line, which then has a marker at each
MOST_MARKS = 8  # restarts that are numbered
NUM_COLOURS = 4
NUM_SHADES = 6  # of the parts of a stack; the first one has its own
LEAST_NUMBERED = 3.0  # percent of the width that a number needs
MOST_LABEL, MOST_NOTE = 36, 54  # characters that a narrow screen has room for
MOST_NAMED = 12  # dots below the limit that are named
MIDDLE = 60.0  # percent, right of which a name stands to the left of its dot


@dataclass(frozen=True, slots=True)
class Area:
    """The rectangle of a plot and the values at its edges."""

    left: float
    top: float
    width: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, value: float) -> float:
        """Return the pixel of a value of the horizontal axis."""
        low, high = self.xs
        return self.left + self.width * (value - low) / ((high - low) or 1.0)

    def y(self, value: float) -> float:
        """Return the pixel of a value of the vertical axis."""
        low, high = self.ys
        return self.top + self.height * (1 - (value - low) / ((high - low) or 1.0))


def lines_svg(figure: Lines) -> Markup:
    """Return curves with their axes, a legend if there are several, and the starts of attempts."""
    points = [point for line in figure.lines for point in line.points]
    values = [value for _, value in points]
    ticks = nice_ticks(min(values), max(values))
    area = Area(LEFT, 34, SMALL - LEFT - RIGHT, 158, (0.0, figure.last), (ticks[0], ticks[-1]))
    legend = _legend(figure.lines) if len(figure.lines) > 1 else []
    return _drawing(
        figure.title,
        _y_axis(area, ticks),
        _x_axis(area, "step"),
        _marks(area, figure.marks),
        [_line(area, line, number) for number, line in enumerate(figure.lines)],
        legend,
        viewBox=f"0 0 {SMALL} {area.top + area.height + BOTTOM:.0f}",
    )


def _drawing(title: str, *parts: Child, **size: object) -> Markup:
    return element("svg", *parts, role="img", aria_label=f"{title}. The table below has the values.", **size)


def _word(x: float, y: float, text: str, anchor: str = "start", kind: str = "muted") -> Markup:
    return element("text", text, x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=kind)


def _path(data: str, kind: str) -> Markup:
    return element("path", d=data, class_=kind)


def _y_axis(area: Area, ticks: Sequence[float]) -> Iterator[Markup]:
    for tick in ticks:
        y = area.y(tick)
        yield _path(f"M{area.left:.1f} {y:.1f}h{area.width:.1f}", "grid")
        yield _word(area.left - 6, y + 4, short(tick), "end")


def _x_axis(area: Area, name: str) -> Iterator[Markup]:
    bottom = area.top + area.height
    low, high = area.xs
    for tick in whole_ticks(low, high):
        yield _path(f"M{area.x(tick):.1f} {bottom:.1f}v4", "axis")
        yield _word(area.x(tick), bottom + 16, f"{tick:,.0f}", "middle")
    yield _path(f"M{area.left:.1f} {bottom:.1f}h{area.width:.1f}", "axis")
    yield _word(area.left + area.width, bottom + 30, name, "end")


def _marks(area: Area, marks: Sequence[tuple[float, str]]) -> Iterator[Markup]:
    """Yield a dotted line where an attempt began, with its number above it."""
    for step, name in marks:
        if area.xs[0] <= step <= area.xs[1]:
            x = area.x(step)
            yield _path(f"M{x:.1f} {area.top:.1f}v{area.height:.1f}", "restart")
            if len(marks) <= MOST_MARKS:
                yield _word(x, area.top - 3, name, "middle", "small")


def _line(area: Area, line: Line, number: int) -> Markup:
    places = [(area.x(step), area.y(value)) for step, value in line.points]
    data = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    colour = number % NUM_COLOURS
    markers = [_marker(x, y, colour) for x, y in places] if len(places) <= FEW_POINTS else []
    return joined(_path(data, f"line c{colour}"), markers)


def _marker(x: float, y: float, colour: int) -> Markup:
    """Return a circle, square, triangle or diamond."""
    shapes = (
        f"M{x - 2.6:.1f} {y:.1f}a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0z",
        f"M{x - 2.6:.1f} {y - 2.6:.1f}h5.2v5.2h-5.2z",
        f"M{x:.1f} {y - 3.4:.1f}l3.4 5.8h-6.8z",
        f"M{x:.1f} {y - 3.6:.1f}l3.6 3.6l-3.6 3.6l-3.6-3.6z",
    )
    return _path(shapes[colour], f"fill c{colour}")


def _legend(lines: Sequence[Line]) -> Iterator[Markup]:
    """Yield a piece of each line with its name, above the plot."""
    x = float(LEFT)
    for number, line in enumerate(lines):
        colour = number % NUM_COLOURS
        label = shortened(line.label, MOST_LABEL)
        yield _path(f"M{x:.1f} 10h26", f"line c{colour}")
        yield _marker(x + 13, 10, colour)
        yield _word(x + 32, 14, label, kind="label")
        x += 32 + 7 * len(label) + 16


def _wide(title: str, height: float, *parts: Child) -> Markup:
    """Return a drawing whose horizontal places are percentages: its letters keep their size at any width."""
    return _drawing(title, *parts, width="100%", height=round(height))


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def _rect(left: float, y: float, width: float, height: float, kind: str) -> Markup:
    return element("rect", x=_percent(left), y=y, width=_percent(width), height=height, class_=kind)


def _text(place: float, y: float, text: str, anchor: str, kind: str) -> Markup:
    return element("text", text, x=_percent(place), y=round(y, 1), text_anchor=anchor, class_=kind)


def bars_svg(figure: Bars) -> Markup:
    """Return horizontal bars, each below its name and its value."""
    row, parts = 29, []
    for number, (label, value, note) in enumerate(figure.bars):
        y = number * row
        parts += [
            _text(0, y + 13, shortened(label, MOST_LABEL), "start", "label"),
            _text(100, y + 13, note, "end", "muted"),
            _rect(0, y + 18, 100, 6, "track"),
            _rect(0, y + 18, 100 * value / figure.most, 6, "fill c0"),
        ]
    return _wide(figure.title, row * len(figure.bars), parts)


def stack_svg(figure: Stack) -> Markup:
    """Return one bar of numbered parts, and a legend with their shares."""
    whole, place = sum(value for _, value, _ in figure.parts) or 1.0, 0.0
    top, row, columns, parts = 52, 21, 2, []
    for number, (label, value, share) in enumerate(figure.parts):
        size = 100 * value / whole
        shade = f"s{(number - 1) % (NUM_SHADES - 1) + 1}" if number else "s0"
        parts.append(_rect(place, 2, size, 34, f"part {shade}"))
        if size > LEAST_NUMBERED:
            parts.append(_text(place + size / 2, 23, str(number + 1), "middle", "on"))
        place += size
        key = [
            element("rect", width=21, height=16, class_=f"part {shade}"),
            _word(10.5, 12, str(number + 1), "middle", "on"),
            _word(28, 12, f"{label} {share}", kind="label"),
        ]
        x = _percent(100 * (number % columns) / columns)
        parts.append(element("svg", key, x=x, y=top + number // columns * row, class_="key"))
    return _wide(figure.title, top + row * math.ceil(len(figure.parts) / columns), parts)


def timeline_svg(figure: Timeline) -> Markup:
    """Return a bar for each attempt on one axis of time, with the end of each below its bar."""
    row, left, parts = 38, 5.0, []
    last = max(span.end for span in figure.spans) or 1.0
    scale = (100 - left) / last
    bottom = row * len(figure.spans)
    for number, span in enumerate(figure.spans):
        y = number * row
        size = max(0.4, scale * (span.end - span.start))
        parts += [
            _text(0, y + 13, span.label, "start", "label"),
            _rect(left, y + 2, 100 - left, 14, "track"),
            _rect(left + scale * span.start, y + 2, size, 14, "fill c0"),
            _text(left, y + 29, shortened(span.note, MOST_NOTE), "start", "small"),
        ]
    for part in range(4):
        anchor = "start" if part == 0 else "end" if part == 3 else "middle"
        name = duration(last * part / 3) if part else "0"
        parts.append(_text(left + (100 - left) * part / 3, bottom + 14, name, anchor, "muted"))
    return _wide(figure.title, bottom + 20, parts)


def dots_svg(figure: Dots) -> Markup:
    """Return a dot for each rank; those below the limit are triangles with a name."""
    xs, ys = [x for x, _, _ in figure.dots], [y for _, y, _ in figure.dots]
    ticks = nice_ticks(min(0.0, *ys), max(1.0, *ys))
    area = Area(8, 8, 90, 190, (min(xs), max(max(xs), min(xs) + 1)), (ticks[0], ticks[-1]))
    limit, bottom = area.y(figure.limit), area.top + area.height
    slow = [dot for dot in figure.dots if dot[1] < figure.limit]
    fine = [
        element("circle", cx=_percent(area.x(x)), cy=round(area.y(y), 1), r=2)
        for x, y, _ in figure.dots
        if y >= figure.limit
    ]
    rows = [
        (_across(area, tick, "grid"), _text(area.left - 1, area.y(tick) + 4, short(tick), "end", "muted"))
        for tick in ticks
    ]
    columns = [_text(area.x(tick), bottom + 17, f"{tick:,.0f}", "middle", "muted") for tick in whole_ticks(*area.xs)]
    return _wide(
        figure.title,
        bottom + 34,
        rows,
        columns,
        _text(98, bottom + 31, figure.across, "end", "muted"),
        element("g", fine, class_="fill c0"),
        _across(area, figure.limit, "limit"),
        _text(98, limit - 5, figure.limit_name, "end", "label"),
        [_slow_dot(area, dot, named=number < MOST_NAMED) for number, dot in enumerate(slow)],
    )


def _across(area: Area, value: float, kind: str) -> Markup:
    y = round(area.y(value), 1)
    return element("line", x1=_percent(area.left), x2=_percent(area.left + area.width), y1=y, y2=y, class_=kind)


def _slow_dot(area: Area, dot: tuple[float, float, str], *, named: bool) -> Markup:
    x = area.x(dot[0])
    end = x > MIDDLE
    label = f"{dot[0]:.0f} {shortened(dot[2], MOST_LABEL)}"
    name = _word(-8 if end else 8, 4, label, "end" if end else "start", "small") if named else None
    return element("svg", _path("M0-4.4l4.4 7.4h-8.8z", "fill bad"), name, x=_percent(x), y=round(area.y(dot[1]), 1))
