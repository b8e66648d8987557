# SPDX-License-Identifier: Apache-2.0
"""Nodes to lose: which processes belong to one, and how a job of two of them ended."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.integration.local.conftest import Run, ranks_of


def daemon_of(rank: int) -> int:
    """Process id of the daemon of Open MPI that started a rank."""
    return _parents()[rank]


def rank_of_node(output: Path, node: int) -> int | None:
    """Process id of the rank on a node, with one rank a node; None while it does not run."""
    return next((pid for pid in ranks_of(output) if f"OMPI_COMM_WORLD_RANK={node}" in _environment(pid)), None)


def lose(rank: int, way: str) -> None:
    """Kill the daemon of this rank, or all that runs on its node."""
    daemon = daemon_of(rank)
    lost = [daemon, *below(daemon)] if way == "node" else [daemon]
    for pid in lost:
        os.kill(pid, signal.SIGKILL)


def last_step(run: Run) -> int:
    """The last step of which a metric line tells; -1 before there is one."""
    path = run.output / "synthetic" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else -1


def seconds_until_no_rank_is_left(output: Path, limit: float) -> float:
    """How long ranks outlived this moment; the limit if they still live then."""
    began = time.monotonic()
    while ranks_of(output) and time.monotonic() - began < limit:
        time.sleep(0.1)
    return time.monotonic() - began


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def below(root: int) -> list[int]:
    """All processes that descend from one."""
    parents, found = _parents(), [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]
