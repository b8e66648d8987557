# SPDX-License-Identifier: Apache-2.0
"""wait, logs and delete when a job does not end as it should: a sidecar, an eviction, a finalizer. Scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpikit.errors import JobError, Timeout
from mpikit.lifecycle.delete import delete_job
from mpikit.lifecycle.logs import JobLog, Wanted
from mpikit.lifecycle.wait import wait_for
from mpikit.status.verdict import Status
from tests.support.scripted.operator import condition, ended, pod, with_status
from tests.support.scripted.server import Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

JOB: Object = {
    "kind": "MPIJob",
    "apiVersion": "kubeflow.org/v2beta1",
    "metadata": {"name": "job", "namespace": NAMESPACE, "uid": "u"},
    "spec": {"mpiReplicaSpecs": {"Worker": {"replicas": 1}}},
}
UP: Object = {"running": {"startedAt": "2026-11-25T03:00:00Z"}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


def plant(world: World, job: Object, launcher: Object) -> None:
    worker = pod(NAMESPACE, "job", "worker", "job-worker-0", "w", "u")
    for plural, item in (("mpijobs", job), ("pods", launcher), ("pods", worker)):
        world.server.store.put("ADDED", plural, item)
    world.server.operator.due.clear()  # nothing happens to it by itself


def launcher_with_proxy(code: int) -> Object:
    """A launcher whose main container has ended beside a proxy that runs."""
    found = ended(pod(NAMESPACE, "job", "launcher", "job-launcher-x", "l"), code, phase="Running")
    found["spec"]["containers"].append({"name": "proxy", "image": "p"})
    found["status"]["containerStatuses"].append({"name": "proxy", "restartCount": 0, "state": UP})
    return found


def wait(world: World, seconds: float = 600.0) -> tuple[Status, list[str]]:
    told: list[str] = []
    return wait_for(
        world.cluster(),
        NAMESPACE,
        "job",
        "succeeded",
        seconds,
        lambda status: told.append(f"{status.verdict}: {status.message}"),
    ), told


def test_a_wait_ends_with_the_verdict_of_the_main_container(world: World) -> None:
    plant(world, with_status(JOB, "Running"), launcher_with_proxy(0))
    status, told = wait(world)
    assert (status.verdict, status.reason, status.finished) == ("Succeeded", "SidecarRunning", True)
    assert "sidecar proxy still runs" in told[-1]


def test_a_wait_fails_with_the_exit_code_of_the_main_container(world: World) -> None:
    plant(world, with_status(JOB, "Running"), launcher_with_proxy(3))
    with pytest.raises(JobError, match="Failed: container launcher of job-launcher-x ended with exit code 3"):
        wait(world)


def test_logs_that_follow_end_although_a_sidecar_runs(world: World) -> None:
    plant(world, with_status(JOB, "Running"), launcher_with_proxy(0))
    told: list[str] = []
    log = JobLog(world.cluster(), NAMESPACE, "job", Wanted(), told.append)
    assert list(log.lines(follow=True))
    assert told[-1] == "--- launcher of job-launcher-x has ended; sidecar proxy still runs"


def test_a_wait_goes_on_while_the_operator_says_failed_without_an_end(world: World) -> None:
    job = with_status(JOB, "Running")
    job["status"]["conditions"] += [condition("Failed", "True", "MPIJobEvicted", "1/1 workers are evicted")]
    plant(world, job, pod(NAMESPACE, "job", "launcher", "job-launcher-x", "l"))
    worker = ended(pod(NAMESPACE, "job", "worker", "job-worker-0", "w", "u"), 137)
    worker["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
    world.server.store.put("MODIFIED", "pods", worker)
    with pytest.raises(Timeout, match="job-launcher-x still runs") as caught:
        wait(world, 90.0)
    assert caught.value.status.verdict == "Evicted"


def test_delete_names_the_finalizer_that_keeps_the_job(world: World) -> None:
    job = with_status(JOB, "Running")
    job["metadata"] = {**job["metadata"], "finalizers": ["lab.example/keep"]}
    world.server.store.put("ADDED", "mpijobs", job)
    store = world.server.store
    store.delete = lambda *_: store.get("mpijobs", NAMESPACE, "job")  # type: ignore[method-assign]  # a finalizer keeps it
    with pytest.raises(Timeout, match=r"MPIJob job \(finalizer lab.example/keep\)"):
        delete_job(world.cluster(), NAMESPACE, "job", 5.0, True, str)
