# SPDX-License-Identifier: Apache-2.0
"""Curves over the steps of one or several runs, thinned so that every spike stays, and the ticks of an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpikit.report.figures import Line, Lines, Point, Shown, Table, spread
from mpikit.report.run import Run

MOST_POINTS = 400  # of a curve: more than a screen shows side by side


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure: its title, and the keys of metrics.jsonl with the label of each."""

    title: str
    keys: tuple[tuple[str, str], ...]


PLOTS = (
    Plot("Loss", (("loss", "training"), ("eval_loss", "validation"))),
    Plot("Accuracy, %", (("top1_percent", "top-1"), ("top5_percent", "top-5"))),
    Plot("Learning rate", (("learning_rate", "learning rate"),)),
    Plot("Gradient norm", (("gradient_norm", "before clipping"),)),
    Plot("Images per second", (("images_per_second", "all ranks"),)),
    Plot("Seconds per step", (("step_seconds", "step"), ("data_seconds", "waiting for images"))),
)


def shown_plots(run: Run, plots: Sequence[Plot]) -> list[Shown]:
    """Return the figures of one run, without those that have no point."""
    found = []
    for plot in plots:
        lines = [(label, points_of(run, key)) for key, label in plot.keys]
        lines = [(label, points) for label, points in lines if points]
        if lines:
            figure = Lines(plot.title, _thinned(lines), _end([run]), restarts(run))
            found.append(Shown(figure, curve_table(lines), plot.title))
    return found


def compared_plots(runs: Sequence[Run], labels: Sequence[str]) -> list[Shown]:
    """Return one figure for each key that any of the runs has, with a line for each run."""
    found = []
    for plot in PLOTS:
        for key, label in plot.keys:
            lines = [(name, points_of(run, key)) for name, run in zip(labels, runs, strict=True)]
            lines = [(name, points) for name, points in lines if points]
            title = plot.title if len(plot.keys) == 1 else f"{plot.title}: {label}"
            if lines:
                found.append(Shown(Lines(title, _thinned(lines), _end(runs)), curve_table(lines), title))
    return found


def _end(runs: Sequence[Run]) -> float:
    return float(max((row["step"] for run in runs for row in run.rows[-1:]), default=0)) or 1.0


def points_of(run: Run, key: str) -> tuple[Point, ...]:
    """Return (step, value) of a key of metrics.jsonl."""
    return tuple({row["step"]: row[key] for row in run.rows if key in row}.items())


def restarts(run: Run) -> tuple[tuple[float, str], ...]:
    """Return the steps at which an attempt after the first began, with its number."""
    steps = [event.get("step") for event in run.events if event.get("event") == "resume"]
    return tuple((float(step), f"{number}") for number, step in enumerate(steps, 2) if isinstance(step, int))


def _thinned(lines: Sequence[tuple[str, tuple[Point, ...]]]) -> tuple[Line, ...]:
    return tuple(Line(label, thinned(points)) for label, points in lines)


def thinned(points: tuple[Point, ...], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """Return at most `most` points: the first, the last, and the lowest and highest of each piece between them."""
    if len(points) <= most:
        return points
    inner, pieces = points[1:-1], most // 2 - 1
    kept = [points[0]]
    for number in range(pieces):
        piece = inner[number * len(inner) // pieces : (number + 1) * len(inner) // pieces]
        low, high = min(piece, key=lambda point: point[1]), max(piece, key=lambda point: point[1])
        kept += sorted({low, high})
    return (*kept, points[-1])


def curve_table(lines: Sequence[tuple[str, tuple[Point, ...]]]) -> Table:
    """Return the values of the lines by their steps."""
    columns = [dict(points) for _, points in lines]
    steps = sorted({step for column in columns for step in column})
    rows = tuple((f"{step:,.0f}", *(_cell(column.get(step)) for column in columns)) for step in spread(steps))
    return Table(("step", *(label for label, _ in lines)), rows, len(steps))


def _cell(value: float | None) -> str:
    return "" if value is None else short(value)


def short(value: float) -> str:
    """Return a number with about four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 round numbers, evenly spaced, from at most `low` to at least `high`."""
    span = (high - low) or max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (factor * power for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            return [number * step for number in range(first, max(last, first + 1) + 1)]
    raise AssertionError("20 x 10^k always fits")


def whole_ticks(low: float, high: float) -> list[float]:
    """Return the ticks of an axis of steps or ranks: few whole numbers from `low` to `high`."""
    return [tick for tick in nice_ticks(low, high, 4) if low <= tick <= high and float(tick).is_integer()]
