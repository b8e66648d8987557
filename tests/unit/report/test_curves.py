# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpikit.report.curves import PLOTS, nice_ticks, points_of, restarts, shown_plots, thinned, whole_ticks
from mpikit.report.run import Run, read_run


def run_with(tmp_path: Path, text: str) -> Run:
    (tmp_path / "metrics.jsonl").write_text(text)
    return read_run(tmp_path)


def test_curves_skip_what_was_not_measured_and_damaged_lines(tmp_path: Path) -> None:
    rows = [{"step": 20, "loss": 1.0, "top1_percent": 50.0}, {"step": 10, "loss": 2.0, "top1_percent": None}]
    more = '{"step": 30, "loss": NaN}\n{"step": true, "loss": 9}\n[1]\n{"step": 40, "loss": 1e999}\n{"step": 50, "lo'
    run = run_with(tmp_path, "\n".join(map(json.dumps, rows)) + f"\n{more}")
    assert points_of(run, "loss") == ((10, 2.0), (20, 1.0))
    assert points_of(run, "top1_percent") == ((20, 50.0),)
    assert [shown.title for shown in shown_plots(run, PLOTS)] == ["Loss", "Accuracy, %"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1500, [0, 500, 1000, 1500]),
        (95.1, 98.3, [95, 96, 97, 98, 99]),
        (0.07, 2.31, [0, 0.5, 1, 1.5, 2, 2.5]),
        (5, 5, [5, 6]),
        (-1, -1, [-1, -0.9]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_thinned_curve_keeps_its_ends_and_its_spikes() -> None:
    points = tuple((float(step), 1.0 + (step == 7777) * 50 - (step == 1234) * 9) for step in range(20_000))
    kept = thinned(points)
    assert len(kept) <= 400
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {points[7777], points[1234]} <= set(kept)
    assert list(kept) == sorted(kept)


def test_a_short_curve_stays_as_it_is() -> None:
    points = tuple((float(step), 0.0) for step in range(400))
    assert thinned(points) == points


def test_restarts_are_numbered_over_all_attempts(tmp_path: Path) -> None:
    events = [{"event": "start", "step": 0}, {"event": "resume", "step": 40}, {"event": "resume", "step": 90}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert restarts(read_run(tmp_path)) == ((40.0, "2"), (90.0, "3"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (0, 7), (0, 335), (0, 20_000), (5, 6)])
def test_steps_and_ranks_have_whole_ticks_each_once(low: int, high: int) -> None:
    ticks = whole_ticks(low, high)
    assert ticks == sorted({round(tick) for tick in ticks})
    assert ticks
    assert low <= ticks[0] <= ticks[-1] <= high
