# SPDX-License-Identifier: Apache-2.0
"""A job that goes on with fewer nodes while one is lost, and takes it back: the same batches, each step once.

A node of `generate.py run` cannot be unreachable, so the agent that stands in for ssh refuses the second one here while
a file exists. tests/e2e/test_fewer_nodes.py does the same with pods.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.conftest import OPEN_MPI, Run
from tests.integration.local.losses import last_step, rank_of_node
from tests.integration.local.test_restarts import SAVE_EVERY, attempts

NUM_STEPS = 20_000  # more than it does until it is stopped, on any machine
RECIPE = (
    *(f"train.num_steps={NUM_STEPS}", f"train.eval_every={NUM_STEPS}", f"train.save_every={SAVE_EVERY}"),
    *("train.log_every=1", "train.synthetic_images=4096", "restarts.max=20", "restarts.waitSeconds=12"),
)
AGENT = """import sys
import mpikit.local
lines = mpikit.local.AGENT.split("\\n")
place = lines.index("shift") # before it, the first word is the host
refusal = 'if [ -e "$NODE_IS_LOST" ]; then echo "No route to host" >&2; exit 255; fi'
lines.insert(place, f'case "$1" in *worker-1*) {refusal} ;; esac')
mpikit.local.AGENT = "\\n".join(lines)
sys.argv[0] = "generate.py"
from mpikit.cli.app import main
main()
"""


def losses(output: Path) -> dict[int, list[float]]:
    """The losses of each step, in the order in which they were computed."""
    found: dict[int, list[float]] = {}
    for line in (output / "synthetic/metrics.jsonl").read_text().splitlines():
        row: dict[str, Any] = json.loads(line)
        if "loss" in row:
            found.setdefault(row["step"], []).append(row["loss"])
    return found


def test_a_job_goes_on_without_a_lost_node_and_takes_it_back(tmp_path: Path) -> None:
    run = Run(OPEN_MPI["5"], tmp_path / "results", *RECIPE, "restarts.minNodes=1")
    lost = tmp_path / "lost"
    run.command[1:2] = ["-c", AGENT]
    run.environment |= {"NODE_IS_LOST": str(lost), "MPIKIT_WATCH_SCALE": "0.1", "PYTHONPATH": os.fspath(Path.cwd())}
    with run.started() as process:
        run.until(process, lambda: last_step(run) >= SAVE_EVERY + 3)
        lost.touch()
        rank = rank_of_node(run.output, 1)
        assert rank
        os.kill(rank, signal.SIGKILL)
        run.until(process, lambda: len(attempts(run.output)) == 1)
        goal = last_step(run) + SAVE_EVERY
        run.until(process, lambda: last_step(run) >= goal)
        lost.unlink()
        run.until(process, lambda: len(attempts(run.output)) == 2)
        goal = last_step(run) + SAVE_EVERY
        run.until(process, lambda: last_step(run) >= goal)
        process.terminate()
        _, told = process.communicate(timeout=120)
    first, second, third = attempts(run.output)
    assert [first["kind"], second["kind"]] == ["a rank or node was lost", "lost nodes work again"], told
    assert (first.get("nodes"), second.get("nodes"), third.get("nodes")) == (None, 1, None)
    assert (second["steps_lost"], third["steps_lost"]) == (0, 0)
    assert "goes on with 1 of 2 nodes (ranks: 1, the same global batch)" in told
    assert "batch: 32 images a step = 1 rank x 32, as 2 micro-batches of 16 a rank" in told
    quiet = Run(OPEN_MPI["5"], tmp_path / "quiet", *RECIPE)
    with quiet.started() as process:
        quiet.until(process, lambda: last_step(quiet) >= goal)
        process.terminate()
        process.communicate(timeout=120)
    wanted, found = losses(quiet.output), losses(run.output)
    assert set(range(1, goal + 1)) <= found.keys() & wanted.keys()
    for step in range(1, goal + 1):
        assert found[step][-1] == pytest.approx(wanted[step][0], rel=1e-3), step


def test_a_job_ends_if_fewer_nodes_than_allowed_are_left(tmp_path: Path) -> None:
    run = Run(OPEN_MPI["5"], tmp_path / "results", *RECIPE, "restarts.waitSeconds=5")
    lost = tmp_path / "lost"
    run.command[1:2] = ["-c", AGENT]
    run.environment |= {"NODE_IS_LOST": str(lost), "PYTHONPATH": os.fspath(Path.cwd())}
    with run.started() as process:
        run.until(process, lambda: last_step(run) >= SAVE_EVERY)
        lost.touch()
        rank = rank_of_node(run.output, 1)
        assert rank
        os.kill(rank, signal.SIGKILL)
        _, told = process.communicate(timeout=240)
    assert "a worker did not come back within 5 s" in told
    assert "exit code 10" in told
