# SPDX-License-Identifier: Apache-2.0
"""The ledger of failures by node: nodes.jsonl in the run's folder, and the nodes to exclude.

A node is named after two failures that began on it, or once a rank on it had a score below 0.7 for 200 steps.
The worker pods know the names of their nodes (MPIKIT_NODE_NAME); `generate.py run` has none, and keeps no ledger.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit.supervise.endings import CHECKS, DEVICE, HANG, LOST, Ending
from vit.supervise.history import RunFiles
from vit.supervise.watchdog.scores import STRIDE_STEPS, THRESHOLD, WINDOW_STEPS

NAME = "nodes.jsonl"
MOST_FAILURES = 2  # of one node
SLOW_SCORES = 5  # in a row: the first and the last have no step in common
SLOW_STEPS = WINDOW_STEPS + (SLOW_SCORES - 1) * STRIDE_STEPS
BLAMED = (CHECKS, DEVICE, HANG, LOST)  # other endings say nothing about a node
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_WORD = re.compile(r"[\w-]+")
_RANK = re.compile(r"\b[Rr]ank (\d{1,9})\b")
_WRITER = re.compile(r"^\[rank \d+\] ")
_LOSSES = re.compile(r"exited on( signal|$)|Remote daemon:|^\[\S+\] FAULT")  # of Open MPI 4 and 5, and setup.sh


@dataclass
class Nodes:
    """Where the workers run, and what happened there."""

    files: RunFiles
    job: str | None
    """uid of the launcher's Job."""
    repair: str
    """The command that moves the workers to other nodes, without --exclude."""
    auto: bool
    """Whether that command finds the nodes by itself."""
    say: Callable[[str], None]
    places: dict[str, str] = field(default_factory=dict)
    """Node of each worker, by its host name."""
    ranks: dict[int, str] = field(default_factory=dict)
    """Host name of each rank."""
    low: Counter[str] = field(default_factory=Counter)
    """Scores in a row that were low, of the slowest rank on a host."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Of nodes.jsonl, by launchers of this Job."""

    def __post_init__(self) -> None:
        """Read what earlier launchers of this Job have left."""
        self.lines = self.files.records(self.job, NAME)

    def learn(self, places: Mapping[str, str], ranks: Mapping[int, str]) -> None:
        """Take what the monitors report."""
        self.places |= {host: node for host, node in places.items() if _NODE.fullmatch(node)}
        self.ranks |= ranks

    def failed(self, number: int, ending: Ending, lines: Sequence[str]) -> None:
        """Note the node on which an attempt failed first, if that is known."""
        self.low.clear()
        host = culprit(ending, lines, self.places, self.ranks) if ending.kind in BLAMED else ""
        if host:
            self._note(host, {"attempt": number, "kind": ending.kind.name, "cause": ending.cause})

    def scored(self, content: Mapping[str, Any]) -> None:
        """Take the content of ranks.json at the end of a window."""
        lowest: dict[str, float] = {}
        for row in content["ranks"]:
            lowest[row["host"]] = min(row["score"], lowest.get(row["host"], 1.0))
        for host, score in lowest.items():
            self.low[host] = self.low[host] + 1 if score < THRESHOLD else 0
            if self.low[host] == SLOW_SCORES:
                self._note(host, {"step": content["step"], "kind": "slow", "score": score})

    def sentences(self) -> list[str]:
        """Return a line for each node that is in use and should not be; `generate.py status` reads these lines."""
        used = dict.fromkeys(self.places.values())
        found = {
            node: why for node in used if (why := reason([line for line in self.lines if line.get("node") == node]))
        }
        return [
            f"node {node} {why}: {self.repair}{'' if self.auto else f' --exclude {node}'}"
            for node, why in found.items()
        ]

    def _note(self, host: str, line: dict[str, Any]) -> None:
        node = self.places.get(host)
        if node is None:
            return
        whole = {"job": self.job, "node": node, "host": host} | line
        self.lines.append(whole)
        self.files.add(whole, NAME)
        for sentence in self.sentences():
            if sentence.startswith(f"node {node} "):
                self.say(sentence)


def culprit(ending: Ending, lines: Sequence[str], hosts: Collection[str], ranks: Mapping[int, str]) -> str:
    """Return the host on which an attempt failed; empty if no line names one, or if several are named."""
    for texts in ([ending.cause], [line for line in lines if _LOSSES.search(line)]):
        if ending.kind is LOST:  # a lost rank writes nothing: the writer has survived
            texts = [_WRITER.sub("", text) for text in texts]
        named = {str(word) for text in texts for word in _WORD.findall(text)} & set(hosts)
        named = named or {ranks[rank] for text in texts for rank in map(int, _RANK.findall(text)) if rank in ranks}
        if len(named) == 1:
            return named.pop()
    return ""


def reason(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return why a node with these lines should not be used; empty if nothing speaks against it."""
    failures = [str(line.get("kind")) for line in lines if line.get("kind") != "slow"]
    if len(failures) >= MOST_FAILURES:
        return f"has caused {len(failures)} failures ({', '.join(dict.fromkeys(failures))})"
    slow = [line.get("score") for line in lines if line.get("kind") == "slow"]
    if slow:
        return f"is slow (score {slow[-1]}, below {THRESHOLD} for {SLOW_STEPS} steps)"
    return ""
