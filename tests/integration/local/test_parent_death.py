# SPDX-License-Identifier: Apache-2.0
"""kill -9 of generate.py ends its job: ranks, daemons and loaders, under Open MPI 4 and 5."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.local.conftest import Run, ranks_of
from tests.integration.local.test_run import LONG, checkpoints

SECONDS = 60.0  # supervision.GRACE_SECONDS, and a busy machine


def started_at(pid: int) -> str | None:
    """What tells a process from another one of its number; None if it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


def descendants(ancestor: int) -> dict[int, str]:
    """All processes below one, with the moment of their start."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: moment for pid in found - {ancestor} if (moment := started_at(pid))}


def all_ended(processes: dict[int, str], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while left := [pid for pid, moment in processes.items() if started_at(pid) == moment]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.1)
    return True


def test_kill_9_of_generate_ends_all_that_it_started(job: Callable[..., Run]) -> None:
    run = job(*LONG, "train.num_workers=1")
    with run.started() as process:
        run.until(process, lambda: len(checkpoints(run)) >= 1)
        below = descendants(process.pid)
        assert len(below) > 6  # supervisor, bash, mpirun, daemons, two ranks, their loaders
        process.kill()
        assert all_ended(below, SECONDS)
        process.communicate()
    assert not ranks_of(run.output)
