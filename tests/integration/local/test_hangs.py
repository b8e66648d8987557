# SPDX-License-Identifier: Apache-2.0
"""Jobs with a stopped rank, loader, daemon or mpirun: the watchdog names it, and the run goes on to the same weights.

MPIKIT_WATCH_SCALE shortens every limit of the watchdog to keep the tests short; at 1 a stopped process is named after
10 to 15 s. The rest is what a user runs.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.local.conftest import OPEN_MPI, Run
from tests.integration.local.losses import below, daemon_of, last_step, rank_of_node
from tests.integration.local.test_restarts import SAVE_EVERY, attempts, processes, quiet, weights

RECIPE = (
    *("train.num_steps=120", "train.eval_every=120", f"train.save_every={SAVE_EVERY}", "train.log_every=1"),
    *("restarts.max=20", "train.num_workers=1"),
)
WAYS = {
    "rank": "rank 1 on ada-vit-2cards-worker-1 is stopped",
    "loader": "a loader process of rank 1 on",
    "daemon": ", the daemon of rank 1 on",
    "mpirun": "on the launcher is stopped",
}
__all__ = ["quiet"]  # a fixture


def victim(run: Run, way: str) -> int:
    """Process id of the rank on node 1, of its loader or daemon, or of mpirun."""
    rank = rank_of_node(run.output, 1)
    assert rank
    if way == "mpirun":
        return processes(run.output, "mpirun")[0]
    if way == "loader":
        return max(pid for pid in below(rank) if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return daemon_of(rank) if way == "daemon" else rank


@pytest.mark.parametrize(("way", "release"), [("rank", "4"), ("loader", "5"), ("daemon", "4"), ("mpirun", "5")])
def test_a_stopped_process_is_named_and_the_run_goes_on(way: str, release: str, quiet: str, tmp_path: Path) -> None:
    run = Run(OPEN_MPI[release], tmp_path / "results", *RECIPE)
    run.environment["MPIKIT_WATCH_SCALE"] = "0.3"
    with run.started() as process:
        run.until(process, lambda: last_step(run) >= SAVE_EVERY + 5)
        os.kill(victim(run, way), signal.SIGSTOP)
        _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    first, last = attempts(run.output)
    assert (first["exit_code"], first["kind"]) == (4, "a rank hangs")
    assert WAYS[way] in first["cause"], first
    assert first["steps_lost"] <= SAVE_EVERY
    assert (last["kind"], weights(run.output)) == ("complete", quiet)
    assert f"the job hangs: {first['cause']}" in told
    stacks = next((run.output / "synthetic").glob("stacks-*.txt")).read_text()
    assert "rank 0 on ada-vit-2cards-worker-0\n" in stacks
    assert "/vit/training/" in stacks
