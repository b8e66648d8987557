# SPDX-License-Identifier: Apache-2.0
"""Jobs whose ranks, daemons, mpirun or scripts are killed: they go on by themselves, to the weights of a quiet run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.conftest import OPEN_MPI, Run, ranks_of
from tests.integration.local.losses import daemon_of, last_step, rank_of_node

NUM_STEPS, SAVE_EVERY = 120, 20
RECIPE = (
    *(f"train.num_steps={NUM_STEPS}", f"train.eval_every={NUM_STEPS}", f"train.save_every={SAVE_EVERY}"),
    *("train.log_every=1", "restarts.max=20"),
)
WAYS = [("rank", "5"), ("daemon", "4"), ("mpirun", "4"), ("script", "5")]


def processes(output: Path, name: str) -> list[int]:
    """Process ids of mpirun, or of run_vit.sh below its supervisor, of the job with this output."""
    word = {"mpirun": b"--hostfile", "script": b"run_vit.sh"}[name]
    ours = f"MPIKIT_OUTPUT={output}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (folder / "cmdline").read_bytes().split(b"\0"), (folder / "environ").read_bytes()
        except OSError:
            continue
        if (
            ours in environment.split(b"\0")
            and any(word in one for one in words[:2])
            and b"MPIKIT_SUPERVISED" in environment
        ):
            found.append(int(folder.name))
    return sorted(found)


def break_it(run: Run, way: str) -> None:
    """Kill the rank of node 1, the daemon that started it, mpirun, or the script that started mpirun."""
    rank = rank_of_node(run.output, 1)
    assert rank
    pids = {"rank": lambda: [rank], "daemon": lambda: [daemon_of(rank)]}
    for pid in pids.get(way, lambda: processes(run.output, way)[:1])():
        os.kill(pid, signal.SIGKILL)


def weights(output: Path) -> str:
    """SHA-256 of the last weights."""
    return hashlib.sha256((output / f"synthetic/checkpoints/step_{NUM_STEPS:08d}/model.pt").read_bytes()).hexdigest()


def attempts(output: Path) -> list[dict[str, Any]]:
    lines = (output / "synthetic/attempts.jsonl").read_text().splitlines()
    return [record for line in lines if "attempt" in (record := json.loads(line))]


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of a run that nothing disturbs; one run for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "quiet.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = Run(OPEN_MPI["5"], shared / "quiet", *RECIPE)
        if not run.output.exists():
            done = run.to_its_end()
            assert done.returncode == 0, done.stderr
        return weights(run.output)


@pytest.mark.parametrize(("way", "release"), WAYS)
def test_a_run_goes_on_by_itself_to_the_same_weights(way: str, release: str, quiet: str, tmp_path: Path) -> None:
    run = Run(OPEN_MPI[release], tmp_path / "results", *RECIPE)
    run.environment["MPIKIT_NODE_NAME"] = "node-a"  # a pod has it of its node
    with run.started() as process:
        run.until(process, lambda: last_step(run) >= SAVE_EVERY + 5)
        break_it(run, way)
        _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    first, last = attempts(run.output)
    assert weights(run.output) == quiet
    assert first["steps_lost"] <= SAVE_EVERY
    assert first["kind"] == "a rank or node was lost", first
    assert (last["kind"], last["verdict"]) == ("complete", 0)
    assert "attempt 2 of 21 starts in" in told
    assert "complete after 2 attempts" in told
    if way in ("rank", "daemon"):
        blamed = json.loads((run.output / "synthetic/nodes.jsonl").read_text())
        assert (blamed["node"], blamed["host"]) == ("node-a", "ada-vit-2cards-worker-1")
    account = [json.loads(line) for line in (run.output / "synthetic/goodput.jsonl").read_text().splitlines()]
    assert all(line["end"] == after["start"] for line, after in pairwise(account)), account
    spent = sum(sum(line["seconds"].values()) for line in account)
    assert spent == pytest.approx(account[-1]["end"] - account[0]["start"], rel=0.01)
    assert account[1]["seconds"]["idle"] > 0
    assert re.search(r"run_vit\.sh: goodput \d+\.\d % of ", told)


def test_a_wrong_configuration_is_not_tried_again(tmp_path: Path) -> None:
    run = Run(OPEN_MPI["5"], tmp_path / "results", *RECIPE, "train.resume=must")
    done = run.to_its_end()
    assert "failed with exit code 2" in done.stderr
    assert "attempt 2" not in done.stderr
    assert attempts(run.output)[0]["verdict"] == 2


def test_a_stop_ends_a_supervised_run_and_loses_no_step(tmp_path: Path) -> None:
    run = Run(OPEN_MPI["5"], tmp_path / "results", *RECIPE, "train.num_steps=5000", "train.eval_every=5000")
    with run.started() as process:
        run.until(process, lambda: last_step(run) >= SAVE_EVERY + 3)
        process.terminate()
        _, told = process.communicate(timeout=120)
    assert "stopped as asked after step" in told
    assert "attempt 2" not in told
    assert not ranks_of(run.output)
    last = attempts(run.output)[-1]
    assert (last["kind"], last["steps_lost"]) == ("stopped as asked", 0)
