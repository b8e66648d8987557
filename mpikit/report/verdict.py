# SPDX-License-Identifier: Apache-2.0
"""A run in one sentence, its accuracies, and what deserves attention."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpikit.report.files import number, text, whole
from mpikit.report.run import Run
from mpikit.text.units import duration
from mpikit.trainer import EXIT_CODES

SLOW_SCORE = 0.7
"""A rank below this share of the others' speed is a straggler."""
MOST_WAIT = 0.2  # of a step, that waiting for images may take
MOST_BEHIND = 1.0  # percentage points from the best to the last accuracy
PRODUCTIVE = ("step",)
STOPPED = 143
STATES = ("start", "resume", "checkpoint", "evaluation", "stop", "error", "complete")
"""Events that say how a run stands; others are notes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence, and whether the run is complete; None where that is still open."""

    sentence: str
    good: bool | None


def verdict_of(run: Run, now: float) -> Verdict:
    """Return how the run stands."""
    state, good = _state(run, now)
    parts = [state, *_accuracy(run)]
    if len(run.attempts) > 1:
        parts.append(f"{len(run.attempts)} attempts")
    if (share := goodput(run)) is not None:
        parts.append(f"goodput {100 * share:.0f} %")
    return Verdict("; ".join(parts) + ".", good)


def _state(run: Run, now: float) -> tuple[str, bool | None]:
    event = next((one for one in reversed(run.events) if one.get("event") in STATES), {})
    last = text(event.get("event"))
    at = f"step {run.step:,}" if run.step is not None else "an unknown step"
    if last == "complete" or (run.completed_step or -1) >= max(run.step or 0, run.num_steps or 0):
        return f"Complete after {at.removeprefix('step ')} steps", True
    code = run.verdict[0] if run.verdict else whole(event.get("exit_code")) if last == "error" else None
    if code == STOPPED or (code is None and last == "stop"):
        return f"Stopped as asked at {at}{_of(run)}; the state is saved", None
    if code:
        return f"Failed at {at}{_of(run)} with exit code {code} ({EXIT_CODES.get(code, 'unknown')})", False
    if not run.rows and not run.events:
        return "Nothing was trained yet", None
    since = f", last written {duration(now - run.written)} ago" if run.written else ""
    return f"Not complete: at {at}{_of(run)}{since}", None


def _of(run: Run) -> str:
    return f" of {run.num_steps:,}" if run.num_steps else ""


def _accuracy(run: Run) -> list[str]:
    best, last = best_evaluation(run), last_evaluation(run)
    if best is None or last is None:
        return ["no evaluation yet"]
    said = f"top-1 {last['top1_percent']:.1f} %"
    if best["step"] != last["step"]:
        said += f" (best {best['top1_percent']:.1f} % at step {best['step']:,.0f})"
    return [said]


def last_evaluation(run: Run) -> dict[str, Any] | None:
    """Return the line of the last evaluation."""
    return run.evaluations[-1] if run.evaluations else None


def best_evaluation(run: Run) -> dict[str, Any] | None:
    """Return the line with the highest top-1, the first of several."""
    return max(run.evaluations, key=lambda row: row["top1_percent"], default=None)


def spent(run: Run) -> dict[str, float]:
    """Return the seconds of all attempts by what they were spent on, most first; empty if that is not known."""
    total: dict[str, float] = {}
    for attempt in run.attempts:
        for name, seconds in attempt.spent.items():
            total[name] = total.get(name, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda pair: -pair[1]))


def goodput(run: Run) -> float | None:
    """Return the share of the time that went into steps that count; None if that is not known."""
    total = spent(run)
    whole_time = sum(total.values())
    return sum(total.get(name, 0.0) for name in PRODUCTIVE) / whole_time if whole_time else None


def median_of(run: Run, key: str) -> float | None:
    """Return the median of a key of metrics.jsonl."""
    values = [row[key] for row in run.rows if key in row]
    return statistics.median(values) if values else None


def wait_share(run: Run) -> float | None:
    """Return the share of the step time in which rank 0 waited for images, over all steps; None if not measured."""
    rows = [row for row in run.rows if row.get("step_seconds") and "data_seconds" in row]
    total = sum(row["step_seconds"] for row in rows)
    return sum(row["data_seconds"] for row in rows) / total if total else None


def warnings_of(run: Run) -> list[str]:
    """Return what deserves attention, the report's own findings first."""
    return [*_findings(run), *run.warnings]


def _findings(run: Run) -> Iterator[str]:
    slow = [rank for rank in run.ranks if rank.score is not None and rank.score < SLOW_SCORE]
    if slow:
        hosts = list(dict.fromkeys(rank.host for rank in slow if rank.host))
        where = f" on {', '.join(hosts[:5])}{' and others' if len(hosts) > 5 else ''}" if hosts else ""
        yield f"{_counted(len(slow), 'rank')}{where} below {SLOW_SCORE:g} of the fastest rank's speed, or of their best"
    share = wait_share(run)
    if share is not None and share > MOST_WAIT:
        yield f"{100 * share:.0f} % of the step time is spent on waiting for images; raise train.num_workers"
    best, last = best_evaluation(run), last_evaluation(run)
    if best and last and best["top1_percent"] - last["top1_percent"] > MOST_BEHIND:
        behind = best["top1_percent"] - last["top1_percent"]
        yield f"the last accuracy is {behind:.1f} points below the best, of step {best['step']:,.0f}"
    damaged = sum(row.get("damaged_images", 0) for row in run.rows)
    if damaged:
        yield f"{_counted(int(damaged), 'training image')} could not be decoded"
    lost = sum(attempt.steps_lost or 0 for attempt in run.attempts)
    if lost:
        yield f"{_counted(lost, 'step')} done again after restarts"
    if run.verdict and run.verdict[0] not in (0, STOPPED) and run.verdict[1]:
        yield f"the launcher ended the job: {run.verdict[1]}"
    for event in run.events:
        if event.get("event") == "error":
            yield f"exit code {number(event.get('exit_code')) or 0:.0f}: {text(event.get('message'))}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
