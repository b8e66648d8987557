# SPDX-License-Identifier: Apache-2.0
"""When a job hangs: no rank made progress within the limit of its phase, or a process is stopped. Pure: time comes in.

Ranks wait for each other in every step, so a rank that is slow in a phase with a long limit, such as a save, makes the
others wait in theirs. Hence only a job in which every rank is over its limit hangs. A limit is LEARNT times the longest
time without progress that any rank has had in that phase, within FLOORS and CAP (NVRx learns timeouts likewise).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit.run.phases import PHASES
from vit.supervise.watchdog.scores import Work

LEARNT = 5.0
LONG_SECONDS = 1800.0  # a compilation, a slow evaluation, a checkpoint onto busy storage
FLOORS = {**dict.fromkeys(PHASES, LONG_SECONDS), "step": 120.0, "data": 600.0}  # storage that stalls is not a hang
CAP_SECONDS = 7200.0
WARM_UP_STEPS = 5  # devices compile in later steps too
STOPPED_SECONDS = 10.0  # a process may be stopped and continued by hand
FRESH_SECONDS = 60.0  # an older report says nothing about this moment
MOST_NAMED = 8
WORK_FIELDS = 12  # of a rank in a report; vit.supervise.watchdog.monitor


@dataclass(frozen=True, slots=True)
class Rank:
    """What a report says about one rank."""

    number: int
    host: str
    step: int
    num_steps: int
    phase: str
    idle: float
    """Seconds without progress."""


@dataclass
class Watch:
    """The state of one attempt's ranks, from the reports of their nodes."""

    longest: dict[str, float] = field(default_factory=dict)
    """Longest seconds without progress in each phase, of all attempts."""
    scale: float = 1.0
    """For tests: factor of every limit."""
    slower: float = 1.0
    """Factor of the limits of an attempt with fewer nodes: each rank has more to do in a step."""
    ranks: dict[str, tuple[float, list[Rank]]] = field(default_factory=dict)
    """By host: time of the report, and its ranks."""
    works: dict[str, tuple[float, list[Work]]] = field(default_factory=dict)
    """By host, likewise: what the ranks have done."""
    nodes: dict[str, str] = field(default_factory=dict)
    """By host: name of the node on which its pod runs."""
    stopped: dict[str, float] = field(default_factory=dict)
    """Name and host of a stopped process: when it was seen first."""

    def hear(self, host: str, report: Mapping[str, Any], now: float) -> None:
        """Take a report; one with other contents than a monitor writes changes nothing."""
        try:
            ranks = [
                Rank(int(rank), host, int(step), int(num_steps), str(phase), float(idle))
                for rank, _, step, num_steps, phase, idle, *_ in report["ranks"]
                if phase in PHASES
            ]
            works = [_work(host, rank) for rank in report["ranks"] if len(rank) == WORK_FIELDS]
            longest = {name: float(report["longest"][name]) for name in PHASES}
            names = [f"{name} on {host}" for name in map(str, report["stopped"])]
        except (KeyError, TypeError, ValueError):
            return
        self.ranks[host] = now, ranks
        self.works[host] = now, works
        if node := report.get("node"):
            self.nodes[host] = str(node)
        for name, seconds in longest.items():
            self.longest[name] = max(seconds, self.longest.get(name, 0.0))
        self.note_stopped(host, names, now)

    def note_stopped(self, host: str, names: Sequence[str], now: float) -> None:
        """Take the names of all processes on a host that are stopped now; each ends with the host."""
        gone = [name for name in self.stopped if name.endswith(f" on {host}") and name not in names]
        for name in gone:
            del self.stopped[name]
        for name in names:
            self.stopped.setdefault(name, now)

    @property
    def hosts(self) -> dict[int, str]:
        """Host of each rank."""
        return {rank.number: rank.host for _, ranks in self.ranks.values() for rank in ranks}

    def limit(self, rank: Rank) -> float:
        """Return how many seconds without progress this rank may have now."""
        warm = rank.num_steps >= WARM_UP_STEPS or rank.phase not in ("step", "data")
        floor = FLOORS[rank.phase] if warm else LONG_SECONDS
        return self.scale * self.slower * min(CAP_SECONDS, max(floor, LEARNT * self.longest.get(rank.phase, 0.0)))

    def judge(self, now: float) -> str:
        """Return why the job hangs, and where; empty if it does not."""
        held = [name for name, since in self.stopped.items() if now - since >= self.scale * STOPPED_SECONDS]
        if held:
            return f"{_listed(held)} {'is' if len(held) == 1 else 'are'} stopped (SIGSTOP)"
        ranks = [rank for at, ranks in self.ranks.values() if now - at < FRESH_SECONDS for rank in ranks]
        if not ranks or any(rank.idle <= self.limit(rank) for rank in ranks):
            return ""
        groups = Counter(rank.phase for rank in ranks).most_common()
        texts = [_group(phase, [rank for rank in ranks if rank.phase == phase]) for phase, _ in groups]
        return f"no rank made progress for {min(rank.idle for rank in ranks):.0f} s: {', '.join(texts)}"


def _work(host: str, rank: Sequence[Any]) -> Work:
    number, _, step, num_steps, _, _, own, steps, data, images, memory, device_memory = rank
    return Work(
        *(int(number), host, int(step), int(num_steps), float(own), float(steps), float(data), int(images)),
        *(int(memory), int(device_memory)),
    )


def _group(phase: str, ranks: Sequence[Rank]) -> str:
    return f"{named(ranks)} in phase {phase} after step {max(rank.step for rank in ranks)}"


def named(ranks: Iterable[Rank]) -> str:
    """Return rank 3 on w-1; at most MOST_NAMED."""
    return _listed([f"rank {rank.number} on {rank.host}" for rank in sorted(ranks, key=lambda rank: rank.number)])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


_THREAD = re.compile(r"^(?:Current t|T)hread .*$", re.MULTILINE)
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')


def place_of(stacks: str) -> str:
    """Return where the main thread is, from faulthandler's text: the innermost frame of the trainer's own code."""
    frames = _FRAME.findall(_THREAD.split(stacks)[-1])  # the main thread comes last
    own = next((frame for frame in frames if "/vit/" in frame[0]), frames[0] if frames else None)
    return "an unknown place" if own is None else f"{own[2]} ({own[0].rpartition('/')[2]}:{own[1]})"


def odd_ones(stacks: Mapping[int, str], hosts: Mapping[int, str]) -> list[str]:
    """Return a line for each place in which ranks are: the most common first, where ranks wait for the others."""
    places: dict[str, list[int]] = {}
    for rank, text in sorted(stacks.items()):
        places.setdefault(place_of(text), []).append(rank)
    ordered = sorted(places.items(), key=lambda item: -len(item[1]))
    return [f"{_listed([f'rank {rank} on {hosts[rank]}' for rank in ranks])}: in {place}" for place, ranks in ordered]
