# SPDX-License-Identifier: Apache-2.0
"""How fast each rank is, apart from waiting: from 0 to 1 over the last 100 steps, and the ranks below 0.7. Pure.

In synchronous training each step takes the same time on all ranks. A slow rank shows only in its own time, that of the
forward passes, which contain no collective (vit.training.loop). The score is the smaller of two ratios: time of the
fastest rank / time of this rank, and best time of this rank / its time now (as in NVRx). A new score comes after each
25 steps, so that a rank of half the speed is below 0.7 at most 75 steps after it became slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WINDOW_STEPS, STRIDE_STEPS = 100, 25
THRESHOLD = 0.7


@dataclass(frozen=True, slots=True)
class Work:
    """What one rank has done since its start."""

    number: int
    host: str
    step: int
    num_steps: int
    own_seconds: float
    """In forward passes."""
    step_seconds: float
    """In steps, waiting for other ranks included."""
    data_seconds: float
    images: int
    """Of one step."""
    memory_bytes: int
    """Resident memory of the process."""
    device_bytes: int = 0
    """Most device memory so far; 0 where the device does not say."""


@dataclass
class Scores:
    """Windows of at least WINDOW_STEPS steps, the same ones for all ranks; they overlap."""

    reports: deque[dict[int, Work]] = field(default_factory=deque)
    """At least STRIDE_STEPS apart, by rank; the first one is the start of the window."""
    best: dict[int, float] = field(default_factory=dict)
    """Shortest own seconds of a step, of each rank."""
    named: set[int] = field(default_factory=set)

    def look(self, ranks: Sequence[Work]) -> dict[str, Any] | None:
        """Return the content of ranks.json if a window ends now; None else."""
        known = {rank.number: rank for rank in ranks if rank.own_seconds > 0}
        if not known or len(known) < len(ranks):  # some ranks have not come as far as a step
            return None
        last = self.reports[-1] if self.reports else {}
        if known.keys() != last.keys() or _steps_between(last, known) < 0:
            self.reports = deque([known])  # the first report, or another attempt
            return None
        if _steps_between(last, known) < STRIDE_STEPS:
            return None
        self.reports.append(known)
        while _steps_between(self.reports[1], known) >= WINDOW_STEPS:
            self.reports.popleft()
        before = self.reports[0]
        return self._scored(before, known) if _steps_between(before, known) >= WINDOW_STEPS else None

    def _scored(self, before: Mapping[int, Work], now: Mapping[int, Work]) -> dict[str, Any]:
        own = {number: _own(before[number], rank) for number, rank in now.items()}
        for number, seconds in own.items():
            self.best[number] = min(seconds, self.best.get(number, seconds))
        fastest = min(own.values())
        rows = [
            _row(before[number], rank, min(fastest, self.best[number]) / own[number])
            for number, rank in sorted(now.items())
        ]
        return {"step": max(rank.step for rank in now.values()), "ranks": rows}

    def slow(self, content: Mapping[str, Any]) -> list[str]:
        """Return a sentence on each rank below THRESHOLD that was not named before."""
        rows = [row for row in content["ranks"] if row["score"] < THRESHOLD and row["rank"] not in self.named]
        self.named |= {row["rank"] for row in rows}
        return [
            f"rank {row['rank']} on {row['host']} is slow: score {row['score']:.2f} (1 is the fastest rank), "
            f"{1000 * row['step_seconds']:.1f} ms in the forward pass of a step; look for other work on that node, "
            "or a slow device"
            for row in rows
        ]


def _steps_between(before: Mapping[int, Work], now: Mapping[int, Work]) -> int:
    return min(rank.num_steps - before[number].num_steps for number, rank in now.items())


def _own(before: Work, now: Work) -> float:
    return max(1e-9, (now.own_seconds - before.own_seconds) / (now.num_steps - before.num_steps))


def _row(before: Work, now: Work, score: float) -> dict[str, Any]:
    steps = now.num_steps - before.num_steps
    data = now.data_seconds - before.data_seconds
    whole = now.step_seconds - before.step_seconds + data
    return {
        "rank": now.number,
        "host": now.host,
        "score": round(score, 3),
        "step_seconds": round(_own(before, now), 6),
        "data_seconds": round(data / steps, 6),
        "images_per_second": round(now.images * steps / whole, 3) if whole > 0 else None,
        "memory_bytes": now.memory_bytes,
    }
