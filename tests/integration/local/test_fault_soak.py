# SPDX-License-Identifier: Apache-2.0
"""Random faults of a run of two nodes, several in one run: it ends by itself with the weights of an undisturbed run.

`scripts/soak restarts` runs many; here is one. RESTART_SEED repeats a case. MPIKIT_WATCH_SCALE shortens the limits of
the watchdog: a process that is stopped is otherwise named after 10 s.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.integration.local.conftest import OPEN_MPI, Run
from tests.integration.local.losses import below, daemon_of, last_step, rank_of_node
from tests.integration.local.test_restarts import NUM_STEPS, RECIPE, SAVE_EVERY, attempts, processes, quiet, weights

CASES, FIRST = int(os.environ.get("RESTART_CASES", "1")), int(os.environ.get("RESTART_SEED", "0"))
VICTIMS = ("rank", "loader", "daemon", "mpirun", "script")
MOST_FAULTS = 2
PATIENCE_SECONDS = 240
__all__ = ["quiet"]  # a fixture


def victim_of(run: Run, name: str, node: int) -> int | None:
    """Process id of what a fault hits; None if it is not there at this moment."""
    if name in ("mpirun", "script"):
        return next(iter(processes(run.output, name)), None)
    if not (rank := rank_of_node(run.output, node)):
        return None
    if name == "rank":
        return rank
    if name == "daemon":
        return daemon_of(rank)
    loaders = [pid for pid in below(rank) if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return max(loaders, default=None)


def hit(run: Run, name: str, node: int, number: int) -> bool:
    """Send a signal; return whether there was a process to send it to."""
    try:
        if victim := victim_of(run, name, node):
            os.kill(victim, number)
        return bool(victim)
    except OSError:
        return False  # it ended by itself in this moment


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_a_run_survives_random_faults(seed: int, quiet: str, tmp_path: Path) -> None:
    chance = random.Random(f"restarts/{seed}")
    release = chance.choice(list(OPEN_MPI))
    faults = [
        (chance.choice(VICTIMS), chance.choice((0, 1)), chance.choice((signal.SIGKILL, signal.SIGSTOP)), step)
        for step in sorted(chance.sample(range(3, NUM_STEPS - 20), chance.randint(1, MOST_FAULTS)))
    ]
    run = Run(OPEN_MPI[release], tmp_path / "results", *RECIPE, "train.num_workers=1")
    run.environment["MPIKIT_WATCH_SCALE"] = "0.3"
    took, num_hit = [], 0
    with run.started() as process:
        for name, node, number, step in faults:
            run.until(process, lambda step=step: last_step(run) >= step, PATIENCE_SECONDS)  # type: ignore[misc]
            if hit(run, name, node, number):
                num_hit += 1
                began = time.monotonic()
                reached = last_step(run)
                run.until(process, lambda reached=reached: last_step(run) > reached + 1, PATIENCE_SECONDS)  # type: ignore[misc]
                took.append(time.monotonic() - began)
        _, told = process.communicate(timeout=PATIENCE_SECONDS)
    shown = ", ".join(
        f"{signal.Signals(number).name} of {name} {node} at {step}" for name, node, number, step in faults
    )
    assert process.returncode == 0, f"seed {seed}: {shown}\n{told}"
    assert weights(run.output) == quiet, f"seed {seed}: {shown}\n{told}"
    found = attempts(run.output)
    assert len(found) <= num_hit + 1, f"seed {seed}: {shown}\n{told}"
    assert all(attempt["steps_lost"] <= SAVE_EVERY for attempt in found), found
    lines = (run.output / "synthetic/goodput.jsonl").read_text().splitlines()
    account = [json.loads(line) for line in lines]
    spent = sum(sum(line["seconds"].values()) for line in account)
    assert spent == pytest.approx(account[-1]["end"] - account[0]["start"], rel=0.01)
    print(
        f"seed {seed}, Open MPI {release}: {shown}; {len(found)} attempts, "
        f"{sum(attempt['steps_lost'] for attempt in found)} steps again, "
        f"fault to a new step {', '.join(f'{seconds:.0f} s' for seconds in took)}"
    )
