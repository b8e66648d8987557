# SPDX-License-Identifier: Apache-2.0
"""What each rank does now: live.json in the run's folder, which `generate.py top` shows. Pure: time comes in.

`{"time", "silent": [host], "ranks": [{"rank", "host", "step", "phase", "idle_seconds", "images_per_second",
"data_seconds", "forward_seconds", "memory_bytes", "device_memory_bytes"}]}`. The speeds are means of the steps since
the record before; null without such a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vit.supervise.watchdog.scores import Work
from vit.supervise.watchdog.watch import FRESH_SECONDS, Rank, Watch

LIVE_SECONDS = 15.0
SPEEDS = ("images_per_second", "data_seconds", "forward_seconds")


@dataclass
class Live:
    """The records of one attempt."""

    hosts: Sequence[str]
    """All nodes, also those that have not reported yet."""
    every: float = LIVE_SECONDS
    last: float | None = None
    """When the last record was made."""
    before: dict[int, Work] = field(default_factory=dict)
    """Of each rank at the start of its interval."""
    speeds: dict[int, dict[str, float]] = field(default_factory=dict)
    """Of each rank's last interval."""

    def look(self, watch: Watch, now: float, time: float) -> dict[str, Any] | None:
        """Return the record of this moment if one is due. `now` is of CLOCK_MONOTONIC, `time` since 1970."""
        if not watch.ranks or (self.last is not None and now - self.last < self.every):
            return None
        self.last = now
        fresh = {host for host, (at, _) in watch.ranks.items() if now - at < FRESH_SECONDS}
        works = {work.number: work for host in fresh for work in watch.works[host][1]}
        for work in works.values():
            self._measure(work)
        ranks = sorted((rank for host in fresh for rank in watch.ranks[host][1]), key=lambda rank: rank.number)
        rows = [self._row(rank, works.get(rank.number)) for rank in ranks]
        silent = [host for host in self.hosts if host not in fresh]
        return {"time": round(time, 3), "nodes": len(self.hosts), "silent": silent, "ranks": rows}

    def _measure(self, work: Work) -> None:
        """End the rank's interval if it contains a step; the first step of a start, the slowest, is in none."""
        before = self.before.get(work.number)
        if before is None or before.num_steps == 0 or work.num_steps < before.num_steps:
            self.before[work.number] = work
            self.speeds.pop(work.number, None)
            return
        steps, data = work.num_steps - before.num_steps, work.data_seconds - before.data_seconds
        whole = work.step_seconds - before.step_seconds + data
        if steps > 0 and whole > 0:
            forward = (work.own_seconds - before.own_seconds) / steps
            found = (work.images * steps / whole, data / steps, forward)
            self.speeds[work.number] = {name: round(value, 6) for name, value in zip(SPEEDS, found, strict=True)}
            self.before[work.number] = work

    def _row(self, rank: Rank, work: Work | None) -> dict[str, Any]:
        speeds = self.speeds.get(rank.number, {}) if rank.phase in ("step", "data") else {}
        return {
            "rank": rank.number,
            "host": rank.host,
            "step": rank.step,
            "phase": rank.phase,
            "idle_seconds": rank.idle,
            **{name: speeds.get(name) for name in SPEEDS},
            "memory_bytes": work.memory_bytes or None if work else None,
            "device_memory_bytes": work.device_bytes or None if work else None,
        }
