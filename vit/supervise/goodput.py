# SPDX-License-Identifier: Apache-2.0
"""What the seconds of a job went into: one line for each attempt in goodput.jsonl, whose parts add up to its time.

The account knows what the launcher sees (start, workers that answer, progress lines, end) and the phases of rank 0,
which the trainer appends to events.jsonl (vit.run.phases). Goodput is the share of the time that went into steps which
were not repeated, as in Google's ml-goodput-measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PARTS: dict[str, str] = {
    "step": "training steps",
    "data": "waiting for data",
    "init": "initialization",
    "compile": "compilation",
    "load": "loading checkpoints",
    "eval": "evaluation",
    "save": "saving checkpoints",
    "redone": "repeated steps",
    "waiting_for_pods": "waiting for pods",
    "hang": "hang",
    "idle": "idle after a failure",
    "other": "other",
}
"""Keys of a line's seconds, and how the log names them."""
_PARTS_OF_PHASES = {"first_batch": "data"}
SHOWN_SHARE = 0.005  # of the whole time; smaller parts are left out of the sentence


@dataclass(frozen=True, slots=True)
class Moments:
    """Unix times of an attempt as the launcher saw it; None for what did not happen."""

    start: float
    ready: float | None
    """All workers answered."""
    heard: float | None
    """The last progress line."""
    end: float
    """The attempt ended."""
    next: float
    """The next one starts; or the job's end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the attempt ended, as far as the account asks."""

    complete: bool = False
    hang: bool = False
    redone_share: float = 0.0
    """Share of its steps that the next attempt does again."""


def account(moments: Moments, phases: Mapping[str, Any] | None, outcome: Outcome) -> dict[str, float]:
    """Return the seconds of each part; together next - start. `phases`: rank 0's last record, {started, seconds}."""
    parts = dict.fromkeys(PARTS, 0.0)
    ready = moments.end if moments.ready is None else moments.ready
    parts["waiting_for_pods"] = ready - moments.start
    last = ready
    if moments.ready is not None and phases:
        seconds = {name: value for name, value in phases["seconds"].items() if isinstance(value, (int, float))}
        started = max(ready, float(phases["started"]))
        parts["init"] = started - ready
        last = started + sum(seconds.values())
        for name, value in seconds.items():
            part = _PARTS_OF_PHASES.get(name, name)
            parts[part if part in PARTS else "other"] += value
    if moments.heard is not None and moments.heard > last:
        parts["step"] += moments.heard - last  # rank 0 was killed before it could say what it did
        last = moments.heard
    rest = "other" if outcome.complete else "hang" if outcome.hang else "idle"
    if not phases and moments.heard is None and not outcome.hang:
        rest = "init"  # no rank has come as far as a step
    parts[rest] += max(0.0, moments.end - last)
    parts["idle"] += moments.next - moments.end
    return _adding_up(_with_redone(parts, outcome.redone_share), moments.next - moments.start)


def _with_redone(parts: dict[str, float], share: float) -> dict[str, float]:
    redone = parts["step"] * min(1.0, max(0.0, share))
    return parts | {"step": parts["step"] - redone, "redone": redone}


def _adding_up(parts: dict[str, float], total: float) -> dict[str, float]:
    """Make the parts add up: clocks of two nodes differ, and so may what launcher and rank 0 have measured."""
    known = sum(parts.values())
    if known > total > 0:
        return {name: value * total / known for name, value in parts.items()}
    return parts | {"other": parts["other"] + total - known}


def total_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each part over all lines of goodput.jsonl."""
    totals = dict.fromkeys(PARTS, 0.0)
    for line in lines:
        for name, value in dict(line.get("seconds") or {}).items():
            if name in totals and isinstance(value, (int, float)):
                totals[name] += value
    return totals


def sentence(totals: Mapping[str, float]) -> str:
    """Return the account in one line, the largest parts first; empty without a step."""
    whole = sum(totals.values())
    if totals["step"] + totals["redone"] <= 0:
        return ""
    shares = {name: totals[name] / whole for name in PARTS if name != "step"}
    most = sorted(shares.items(), key=lambda item: -item[1])
    rest = ", ".join(f"{PARTS[name]} {100 * share:.1f} %" for name, share in most if share >= SHOWN_SHARE)
    return f"goodput {100 * totals['step'] / whole:.1f} % of {_span(whole)}" + (f"; {rest}" if rest else "")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
