# SPDX-License-Identifier: Apache-2.0
"""What status says while the launcher starts the ranks again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mpikit.kube.pods import Pod
from mpikit.kube.resources import MPIJob
from mpikit.status.snapshot import Snapshot
from mpikit.status.suspects import suspects_of
from mpikit.status.verdict import Status, status_of
from vit.supervise.endings import HANG, Ending
from vit.supervise.history import RunFiles
from vit.supervise.nodes import Nodes

NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
ENDED = "run_vit.sh: attempt 1 ended after 640 s: a rank or node was lost (exit code 137): signal 9 (Killed)"
STARTS = "run_vit.sh: attempt 2 of 21 starts in 1 s and continues from step 400, 13 steps are done again"
WAITS = "run_vit.sh: waiting for worker 2 of 2 (vit-worker-1): its name does not resolve yet (3 s of at most 900 s)"
STEP = "step=401/1500 loss=0.4 images_per_second=100"


def pod(name: str, role: str, phase: str = "Running", **meta: Any) -> Pod:
    labels = {"training.kubeflow.org/job-name": "vit", "training.kubeflow.org/job-role": role}
    state: Mapping[str, Any] = {"running": {}} if phase == "Running" else {"terminated": {"exitCode": 0}}
    spec = {"nodeName": "a", "containers": [{"name": role}]}
    status = {"phase": phase, "containerStatuses": [{"name": role, "state": state}]}
    return Pod({"metadata": {"name": name, "labels": labels, **meta}, "spec": spec, "status": status})


def status(*lines: str, workers: tuple[Pod, ...] = (), conditions: tuple[str, ...] = ("Created", "Running")) -> Status:
    held = [{"type": name, "status": "True", "reason": f"MPIJob{name}", "message": name} for name in conditions]
    spec = {"mpiReplicaSpecs": {"Worker": {"replicas": 2}}}
    job = MPIJob({"metadata": {"name": "vit", "namespace": "ada"}, "spec": spec, "status": {"conditions": held}})
    log = tuple((NOW - timedelta(seconds=60), line) for line in lines)
    launcher = pod("vit-launcher", "launcher")
    both = workers or (pod("vit-worker-0", "worker"), pod("vit-worker-1", "worker"))
    return status_of(Snapshot("vit", "ada", NOW, job, pods=(launcher, *both), log=log))


def test_a_restart_has_its_number_cause_and_steps() -> None:
    found = status(STEP, ENDED, STARTS, WAITS)
    assert found.verdict == "Recovering 2/21"
    assert "signal 9 (Killed); continues from step 400, 13 steps are done again" in found.message
    assert found.since == NOW - timedelta(seconds=60)
    assert "logs -f vit -n ada" in found.advice


def test_the_first_new_step_ends_it() -> None:
    assert status(ENDED, STARTS, WAITS, STEP).verdict == "Running"


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_worker_that_has_ended_needs_repair(phase: str) -> None:
    found = status(ENDED, STARTS, workers=(pod("vit-worker-0", "worker"), pod("vit-worker-1", "worker", phase)))
    assert "Pod vit-worker-1 has ended" in found.message
    assert found.advice == "python generate.py repair vit -n ada"


def test_a_worker_that_is_being_deleted_already_needs_none() -> None:
    gone = pod("vit-worker-1", "worker", "Failed", deletionTimestamp="2026-11-27T11:59:00Z")
    assert "repair" not in status(ENDED, STARTS, workers=(pod("vit-worker-0", "worker"), gone)).advice


def test_a_condition_failed_of_an_evicted_worker_is_not_the_end_while_the_launcher_works() -> None:
    assert status(ENDED, STARTS, conditions=("Created", "Failed")).verdict == "Recovering 2/21"


def test_without_a_restart_nothing_changes() -> None:
    assert status(STEP).verdict == "Running"


NAMED = "run_vit.sh: node a has caused 2 failures (a rank or node was lost): python generate.py repair vit --exclude a"


def test_a_node_that_fails_again_is_named_with_the_command() -> None:
    for lines, verdict in (((STEP, NAMED, STEP), "Running"), ((STEP, ENDED, NAMED, STARTS), "Recovering 2/21")):
        found = status(*lines)
        assert found.verdict == verdict
        assert "; node a has caused 2 failures (a rank or node was lost)" in found.message
        assert found.advice == "python generate.py repair vit -n ada --exclude a"


def test_a_node_that_no_worker_uses_is_not_named() -> None:
    assert "node b" not in status(STEP, NAMED.replace("node a", "node b")).message


@pytest.mark.parametrize("auto", [True, False])
def test_what_the_launcher_says_of_a_node_is_understood(auto: bool, tmp_path: Path) -> None:
    said: list[str] = []
    nodes = Nodes(RunFiles(tmp_path, "run"), "uid", "python generate.py repair vit", auto, said.append)
    nodes.learn({"vit-worker-1": "a.example-1"}, {1: "vit-worker-1"})
    for number in (1, 2):
        nodes.failed(number, Ending(HANG, 4, "rank 1 on vit-worker-1 is stopped (SIGSTOP)"), [])
    found = suspects_of([f"run_vit.sh: {line}" for line in said], MPIJob({}))
    assert found == {"a.example-1": "has caused 2 failures (a rank hangs)"}


def test_a_repair_that_was_interrupted_is_finished_by_the_same_command() -> None:
    notes = {"mpikit/resuming": "true", "mpikit/excluded-nodes": "a"}
    metadata = {"name": "vit", "namespace": "ada", "annotations": notes}
    job = MPIJob(
        {
            "metadata": metadata,
            "spec": {"runPolicy": {"suspend": True}},
            "status": {"conditions": [{"type": "Created", "status": "True"}]},
        }
    )
    found = status_of(Snapshot("vit", "ada", NOW, job))
    assert found.verdict == "Suspended"
    assert found.advice == "python generate.py repair vit -n ada --exclude a resumes it without a"


FEWER = "run_vit.sh: goes on with 1 of 2 nodes (ranks: 1, the same global batch): worker 2 of 2 (vit-worker-1): refused"


def test_a_job_that_goes_on_without_a_lost_node_runs() -> None:
    ended = (pod("vit-worker-0", "worker"), pod("vit-worker-1", "worker", "Failed"))
    found = status(ENDED, STARTS, FEWER, STEP, workers=ended)
    assert (found.verdict, found.reason) == ("Running", "FewerNodes")
    assert "trains with 1 of 2 nodes until the others are back: vit-worker-1 " in found.message


def test_it_recovers_until_its_first_step_and_again_after_another_failure() -> None:
    assert status(ENDED, STARTS, FEWER).verdict == "Recovering 2/21"
    again = status(ENDED, STARTS, FEWER, STEP, ENDED.replace("1", "2", 1), STARTS.replace("2", "3", 1))
    assert again.verdict == "Recovering 3/21"
    assert status(ENDED, STARTS, FEWER, STEP, ENDED, STARTS, STEP).reason == "MPIJobRunning"
