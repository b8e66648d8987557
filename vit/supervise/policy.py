# SPDX-License-Identifier: Apache-2.0
"""Whether a run is started again after an attempt: budgets, pauses, exit codes. Pure: time and chance come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vit.errors import EXIT_CODES
from vit.supervise.endings import CHECKS, COMPLETE, NO_WORKERS, STOPPED, Ending

MOST_IDLE = 3  # attempts in a row without a new checkpoint step (NVRx: max_no_progress_cycles)
MOST_DRAINS = 100  # a cluster that preempts a job that often has no place for it
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`restarts` of the values."""

    max: int
    """Restarts in all, drained workers not counted."""
    wait_seconds: int
    """How long a restart waits for a lost worker."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of mpirun. Steps are None where nothing is known."""

    number: int
    ending: Ending
    seconds: float
    checkpoint_before: int | None
    checkpoint_after: int | None
    last_step: int | None
    nodes: int | None = None
    """With how many nodes it went on, if that were not all."""

    @property
    def progressed(self) -> bool:
        """Whether the attempt left a checkpoint of a later step than the one before it."""
        return (self.checkpoint_after or 0) > (self.checkpoint_before or 0)

    @property
    def steps_lost(self) -> int:
        """Steps that the next attempt does again: last step - last checkpoint."""
        return max(0, (self.last_step or 0) - (self.checkpoint_after or 0))

    def record(self) -> dict[str, Any]:
        """Return the line of attempts.jsonl."""
        return {
            "attempt": self.number,
            "exit_code": self.ending.code,
            "kind": self.ending.kind.name,
            "cause": self.ending.cause,
            "seconds": round(self.seconds, 3),
            "checkpoint_before": self.checkpoint_before,
            "checkpoint_after": self.checkpoint_after,
            "last_step": self.last_step,
            "steps_lost": self.steps_lost,
        } | ({} if self.nodes is None else {"nodes": self.nodes})


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows an attempt: another one after a pause, or an exit code."""

    exit_code: int | None
    """None: start again."""
    why: str
    pause_seconds: float = 0.0


def decide(attempts: Sequence[Attempt], limits: Limits, chance: float) -> Decision:
    """Return what follows the last of the attempts; `chance` in [0, 1) spreads the pause (jitter)."""
    last = attempts[-1]
    if last.ending.kind in (COMPLETE, STOPPED):
        return Decision(last.ending.code, "")
    if reason := _never(attempts, limits):
        return Decision(last.ending.code, reason)
    if reason := _spent(attempts, limits):
        return Decision(EXIT_CODES["restarts"], reason)
    if last.ending.kind.drained:
        return Decision(None, "", FIRST_PAUSE_SECONDS * chance)
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 4 ** (_idle(attempts)))
    return Decision(None, "", pause * (0.5 + 0.5 * chance))


def _never(attempts: Sequence[Attempt], limits: Limits) -> str:
    """Return why no other attempt can succeed; empty if one may."""
    last = attempts[-1]
    kind = last.ending.kind
    if limits.max == 0:
        return "restarts.max is 0"
    if len(attempts) == 1 and kind is CHECKS:
        return "the checks failed before the first start"
    if kind is NO_WORKERS and len(attempts) > 1:
        return ""  # the budget below says it
    if kind.verdict == "end":
        return f"{kind.name}: another attempt would end the same way"
    if kind.verdict == "once":
        if not last.progressed and not last.checkpoint_after and len(attempts) > 1:
            return f"{kind.name} again, before the first checkpoint"
        earlier = [item for item in attempts[:-1] if item.ending.kind is kind]
        if any(item.last_step == last.last_step for item in earlier):
            return f"{kind.name} again at the same step"
    return ""


def _spent(attempts: Sequence[Attempt], limits: Limits) -> str:
    """Return which budget is spent; empty if none is."""
    if attempts[-1].ending.kind is NO_WORKERS:
        return f"a worker did not come back within {limits.wait_seconds} s"
    drains = sum(item.ending.kind.drained for item in attempts)
    if drains >= MOST_DRAINS:
        return f"workers were drained {drains} times"
    if (idle := _idle(attempts)) >= MOST_IDLE:
        return f"{idle} attempts in a row without a new checkpoint"
    if len(attempts) - drains > limits.max:
        return f"all {limits.max} restarts are used (restarts.max)"
    return ""


def _idle(attempts: Sequence[Attempt]) -> int:
    """Return how many attempts at the end left no new checkpoint, drained ones not counted."""
    count = 0
    for item in reversed(attempts):
        if item.progressed:
            break
        count += not item.ending.kind.drained
    return count
