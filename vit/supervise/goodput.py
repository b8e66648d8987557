# SPDX-License-Identifier: Apache-2.0
"""What the seconds of a job went into: one line for each attempt in goodput.jsonl, whose parts add up to its time.

The account knows what the launcher sees (start, workers that answer, progress lines, end) and the phases of rank 0,
which the trainer appends to events.jsonl (vit.run.phases). Goodput is the share of the time that went into steps which
were not repeated, as in Google's ml-goodput-measurement.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vit.supervise.endings import COMPLETE, HANG, STOPPED
from vit.supervise.history import RunFiles
from vit.supervise.policy import Attempt

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
NAME = "goodput.jsonl"
SAY_SECONDS = 600.0  # between two lines of a running job
CLOCK_SLACK_SECONDS = 2.0  # the clock of rank 0's node may be behind the launcher's
_READY = re.compile(r"run_vit\.sh: all \d+ workers answer")
_STEP = re.compile(r"step=\d+/\d+ ")


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


@dataclass
class Ledger:
    """The account of one launcher."""

    files: RunFiles
    job: str | None
    age_seconds: float = 0.0
    """For how long this launcher has run."""
    clock: Callable[[], float] = time.time
    lines: list[dict[str, Any]] = field(default_factory=list)
    _start: float = 0.0
    _ready: float | None = None
    _heard: float | None = None
    _said: float = 0.0
    _over: tuple[float, Attempt] | None = None
    """End of an attempt whose line waits for the start of the next one."""

    def open(self) -> None:
        """Start the account; the time since an earlier launcher of this Job went into what it began, and waiting."""
        self.lines = self.files.records(self.job, NAME)
        self._start = self.clock() - self.age_seconds
        ends = [line["end"] for line in self.lines if isinstance(line.get("end"), (int, float))]
        if ends:
            self._add_lost(max(ends), self._start)
        self._add({"launcher": len(ends), "start": self._start, "end": self._start, "seconds": {}})

    def begin(self) -> None:
        """Note the start of an attempt; the first one began with the launcher."""
        self.close()
        self._ready = self._heard = None

    def heard(self, line: str) -> None:
        """Take a line of the attempt."""
        if _STEP.match(line):
            self._heard = self.clock()
        elif _READY.match(line):
            self._ready = self.clock()

    def ended(self, attempt: Attempt) -> None:
        """Note the end of the attempt."""
        self._over = (self.clock(), attempt)

    def close(self) -> None:
        """Write the line of an attempt that is over, with the pause after it."""
        if self._over is None:
            return
        end, attempt = self._over
        now = self.clock()
        outcome = Outcome(attempt.ending.kind in (COMPLETE, STOPPED), attempt.ending.kind is HANG, _share_lost(attempt))
        moments = Moments(self._start, self._ready, self._heard, end, now)
        seconds = account(moments, self._phases(self._start), outcome)
        cause = f"{attempt.ending.kind.name}: {attempt.ending.cause}".rstrip(": ")
        self._add({"attempt": attempt.number, "start": self._start, "end": now, "seconds": seconds, "cause": cause})
        self._start, self._over = now, None

    def sentence(self) -> str:
        """Return the account of all launchers of this Job, of the attempts that are over."""
        return sentence(total_of(self.lines))

    def due(self) -> str:
        """Return the account with the attempt that runs, if it is time to say it again; else nothing."""
        now = self.clock()
        if self._heard is None or now < max(self._said, self._start) + SAY_SECONDS:
            return ""
        self._said = now
        running = Moments(self._start, self._ready, self._heard, now, now)
        return sentence(
            total_of([*self.lines, {"seconds": account(running, self._phases(self._start), Outcome(True))}])
        )

    def _add_lost(self, start: float, end: float) -> None:
        """Add a line for the time between the last line and this launcher."""
        phases = self._phases(start)
        ready = float(phases["started"]) if phases else None
        seconds = account(Moments(start, ready, None, end, end), phases, Outcome())
        self._add({"start": start, "end": end, "seconds": seconds, "cause": "the launcher was lost"})

    def _phases(self, since: float) -> Mapping[str, Any] | None:
        """Return rank 0's last record of an attempt that began then; None if it left none."""
        for event in reversed(self.files.last_events()):
            started, seconds = event.get("started"), event.get("seconds")
            if event.get("event") == "phases" and isinstance(started, (int, float)) and isinstance(seconds, dict):
                return event if started >= since - CLOCK_SLACK_SECONDS else None
        return None

    def _add(self, line: dict[str, Any]) -> None:
        rounded = {name: round(value, 3) for name, value in line["seconds"].items() if value}
        times = {name: round(line[name], 3) for name in ("start", "end")}
        whole = {"job": self.job} | line | times | {"seconds": rounded}
        self.lines.append(whole)
        self.files.add(whole, NAME)


def _share_lost(attempt: Attempt) -> float:
    """Return the share of the attempt's steps that are done again."""
    done = (attempt.last_step or 0) - (attempt.checkpoint_before or 0)
    return attempt.steps_lost / done if done > 0 else 0.0
