# SPDX-License-Identifier: Apache-2.0
"""Keep goodput.jsonl in the run's folder: a line when a launcher starts, and one for each attempt that is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vit.supervise.endings import COMPLETE, HANG, STOPPED
from vit.supervise.goodput import Moments, Outcome, account, sentence, total_of
from vit.supervise.history import RunFiles
from vit.supervise.policy import Attempt

NAME = "goodput.jsonl"
SAY_SECONDS = 600.0  # between two lines of a running job
CLOCK_SLACK_SECONDS = 2.0  # the clock of rank 0's node may be behind the launcher's
_READY = re.compile(r"run_vit\.sh: all \d+ workers answer")
_STEP = re.compile(r"step=\d+/\d+ ")


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
