# SPDX-License-Identifier: Apache-2.0
"""Loss and top-1 of a run over its steps, out of metrics.jsonl: as SVG and as a plot of characters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 760, 300
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT, GAP = 52, 56, 300, 190, 76  # of the SVG's panels, in pixels
COLUMNS, ROWS, LABEL_WIDTH = 28, 8, 5  # of a panel of the text plot
COLOURS = ("#c2410c", "#1d4ed8")  # both readable on white, and told apart without colour vision by their panels


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel: points (step, value) in order of their steps."""

    title: str
    points: tuple[tuple[float, float], ...]

    @property
    def ticks(self) -> list[float]:
        """Labels of the vertical axis; the first and the last are its ends."""
        values = [value for _, value in self.points]
        return nice_ticks(min(values), max(values))


def read_curves(metrics: Path) -> list[Curve]:
    """Training loss and top-1 of a metrics.jsonl; curves without a point and damaged lines are left out."""
    rows = list(_rows(metrics))
    found = []
    for title, key in (("training loss", "loss"), ("top-1, %", "top1_percent")):
        points = {row["step"]: float(row[key]) for row in rows if isinstance(row.get(key), (int, float))}
        if points:
            found.append(Curve(title, tuple(sorted(points.items()))))
    return found


def _rows(metrics: Path) -> Iterator[dict[str, float]]:
    for line in metrics.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            yield row


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 round numbers, evenly spaced, from at most `low` to at least `high`."""
    span = (high - low) or max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (factor * power for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            return [number * step for number in range(first, max(last, first + 1) + 1)]
    raise AssertionError("20 x 10^k always fits")


def svg(curves: Sequence[Curve], title: str) -> str:
    """Return the curves side by side as one SVG without scripts or outside files."""
    panels = "".join(
        _panel(curve, LEFT + number * (PANEL_WIDTH + GAP), COLOURS[number % 2]) for number, curve in enumerate(curves)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="{escape(title)}">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600" fill="#111">{escape(title)}</text>\n{panels}</svg>\n'
    )


def _panel(curve: Curve, left: int, colour: str) -> str:
    ticks, last_step = curve.ticks, curve.points[-1][0]
    low, high = ticks[0], ticks[-1]
    bottom = TOP + PANEL_HEIGHT

    def place(step: float, value: float) -> tuple[float, float]:
        return left + PANEL_WIDTH * step / last_step, bottom - PANEL_HEIGHT * (value - low) / (high - low)

    lines = [f'<text x="{left}" y="{TOP - 12}" fill="#111">{escape(curve.title)}</text>']
    for tick in ticks:
        y = place(0, tick)[1]
        lines += [
            f'<path d="M{left} {y:.1f}h{PANEL_WIDTH}" stroke="#ddd"/>',
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{tick:.4g}</text>',
        ]
    for tick in (tick for tick in nice_ticks(0, last_step) if tick <= last_step):
        x = place(tick, low)[0]
        lines.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#444">{tick:,.0f}</text>')
    lines.append(f'<text x="{left + PANEL_WIDTH}" y="{bottom + 36}" text-anchor="end" fill="#444">step</text>')
    places = [place(*point) for point in curve.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    if len(places) <= 30:
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return "\n".join(lines) + "\n"


def text_plot(curves: Sequence[Curve]) -> str:
    """Return the curves side by side in characters, at most 80 columns for two."""
    blocks = [_text_panel(curve) for curve in curves]
    return "\n".join("  ".join(parts).rstrip() for parts in zip(*blocks, strict=True))


def _text_panel(curve: Curve) -> list[str]:
    """Lines of equal width: the title, the plot with its highest and lowest value, the axis of steps."""
    low, high, last_step = curve.ticks[0], curve.ticks[-1], curve.points[-1][0]
    grid = [[" "] * COLUMNS for _ in range(ROWS)]
    for step, value in curve.points:
        row = round((ROWS - 1) * (high - value) / (high - low))
        grid[row][round((COLUMNS - 1) * step / last_step)] = "*"
    labels = [f"{high:.4g}", *[""] * (ROWS - 2), f"{low:.4g}"]
    width = LABEL_WIDTH + 2 + COLUMNS
    lines = [f"{'':{LABEL_WIDTH}}  {curve.title}"]
    lines += [f"{label:>{LABEL_WIDTH}} |{''.join(cells)}" for label, cells in zip(labels, grid, strict=True)]
    lines.append(f"{'0':>{LABEL_WIDTH + 2}}{f'step {last_step:,.0f}':>{COLUMNS}}")
    return [line.ljust(width) for line in lines]
