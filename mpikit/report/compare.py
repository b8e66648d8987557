# SPDX-License-Identifier: Apache-2.0
"""Two runs beside each other: results, the flags that differ, and the same curves over each other."""

from __future__ import annotations

from collections.abc import Callable

from mpikit.report.curves import compared_plots, short
from mpikit.report.figures import Page, Section, Shown, table
from mpikit.report.flags import shown
from mpikit.report.run import Run
from mpikit.report.verdict import best_evaluation, goodput, last_evaluation, median_of, verdict_of, wait_share
from mpikit.text.units import duration

PLACES = {"name", "data_path", "output_dir", "pretrained_dir"}
"""Flags that do not change what is trained."""
Figure = Callable[[Run], float | None]


def compared_page(first: Run, second: Run, now: float) -> Page:
    """Return the report of two runs."""
    runs, labels = (first, second), _labels(first, second)
    verdicts = [verdict_of(run, now) for run in runs]
    lead = [f"{label}: {verdict.sentence}" for label, verdict in zip(labels, verdicts, strict=True)]
    results = Section(
        "results", "Results", lead=lead, shown=[Shown(None, table(["figure", *labels, "difference"], _results(runs)))]
    )
    curves = Section("curves", "Curves", shown=compared_plots(runs, labels), side_by_side=True)
    curves.missing = "" if curves.shown else "neither run has a line in metrics.jsonl"
    states = [verdict.good for verdict in verdicts]
    good = False if False in states else None if None in states else True
    return Page(
        f"{labels[0]} and {labels[1]}", _sentence(runs, labels), good, (results, _differences(runs, labels), curves)
    )


def _labels(first: Run, second: Run) -> tuple[str, str]:
    if first.name != second.name:
        return first.name, second.name
    return str(first.path), str(second.path) if first.path != second.path else f"{second.path} (again)"


def _sentence(runs: tuple[Run, Run], labels: tuple[str, str]) -> str:
    scores = [_best_top1(run) for run in runs]
    if scores[0] is None or scores[1] is None:
        return "Accuracy cannot be compared: a run has no evaluation yet."
    difference = scores[0] - scores[1]
    if abs(difference) < 0.005:
        return f"Both reach {scores[0]:.2f} % top-1."
    better = 0 if difference > 0 else 1
    return (
        f"{labels[better]} reaches {scores[better]:.2f} % top-1, {abs(difference):.2f} points more than "
        f"{labels[1 - better]} with {scores[1 - better]:.2f} %."
    )


def _best_top1(run: Run) -> float | None:
    row = best_evaluation(run)
    return None if row is None else float(row["top1_percent"])


def _last(key: str) -> Figure:
    def value(run: Run) -> float | None:
        row = last_evaluation(run)
        return None if row is None else row.get(key)

    return value


def _median(key: str) -> Figure:
    return lambda run: median_of(run, key)


def _percent(share: Figure) -> Figure:
    def value(run: Run) -> float | None:
        found = share(run)
        return None if found is None else 100 * found

    return value


FIGURES: tuple[tuple[str, Figure], ...] = (
    ("best top-1, %", _best_top1),
    ("final top-1, %", _last("top1_percent")),
    ("final top-5, %", _last("top5_percent")),
    ("final validation loss", _last("eval_loss")),
    ("steps", lambda run: run.step),
    ("images per second, median", _median("images_per_second")),
    ("seconds per step, median", _median("step_seconds")),
    ("waiting for images, %", _percent(wait_share)),
    ("goodput, %", _percent(goodput)),
    ("attempts", lambda run: float(len(run.attempts)) if run.attempts else None),
)


def _results(runs: tuple[Run, Run]) -> list[list[str]]:
    """Return a row for each figure that a run has."""
    rows = []
    for name, figure in FIGURES:
        values = [figure(run) for run in runs]
        if values == [None, None]:
            continue
        first, second = values
        difference = "" if first is None or second is None else _signed(second - first)
        rows.append([name, *("" if value is None else short(value) for value in values), difference])
    times = [sum(attempt.seconds or 0.0 for attempt in run.attempts) for run in runs]
    if any(times):
        rows.append(["time of all attempts", *(duration(time) if time else "" for time in times), ""])
    return rows


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.2g}" if value else "0"


def _differences(runs: tuple[Run, Run], labels: tuple[str, str]) -> Section:
    first, second = (run.config for run in runs)
    names = [name for name in first | second if first.get(name) != second.get(name)]
    ordered = sorted(names, key=lambda name: name in PLACES)
    rows = [[name, shown(first.get(name)), shown(second.get(name))] for name in ordered]
    section = Section("values", "Values that differ", shown=[Shown(None, table(["value", *labels], rows))])
    section.missing = "" if rows else "all values in config.json are the same"
    if not first or not second:
        section.missing = "a run has no config.json"
    return section
