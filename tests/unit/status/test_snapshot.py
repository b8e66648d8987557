# SPDX-License-Identifier: Apache-2.0
"""What `status` reads of a job: the events of all pods that do not start, in few requests. Scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpikit.status.snapshot import read_snapshot
from mpikit.status.verdict import status_of
from tests.support.scripted.operator import pod, with_status
from tests.support.scripted.server import Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

NUM_WORKERS = 40
JOB: Object = {
    "kind": "MPIJob",
    "apiVersion": "kubeflow.org/v2beta1",
    "metadata": {"name": "job", "namespace": NAMESPACE, "uid": "u", "creationTimestamp": "2026-11-25T03:00:00Z"},
    "spec": {"mpiReplicaSpecs": {"Worker": {"replicas": NUM_WORKERS}}},
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


def worker(number: int) -> Object:
    """A worker whose node has not made its container yet."""
    found = pod(NAMESPACE, "job", "worker", f"job-worker-{number}", f"w{number}", "u")
    state = {"waiting": {"reason": "ContainerCreating"}}
    found["status"] = {"phase": "Pending", "containerStatuses": [{"name": "worker", "state": state}]}
    return found


def warning(name: str, about: str, message: str, reason: str = "FailedMount") -> Object:
    return {
        "kind": "Event",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "involvedObject": {"kind": "Pod", "name": about},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-11-25T03:05:00Z",
    }


def test_the_events_of_the_last_slow_pod_are_read_too_in_few_requests(world: World) -> None:
    items = [("mpijobs", with_status(JOB, "Created")), *(("pods", worker(number)) for number in range(NUM_WORKERS))]
    items.append(("events", warning("e1", "job-worker-3", 'MountVolume.SetUp failed : secret "s" not found')))
    full = "Failed to create pod sandbox: no space left on device"
    items.append(("events", warning("e2", f"job-worker-{NUM_WORKERS - 1}", full, "FailedCreatePodSandBox")))
    items.append(("events", warning("e3", "other-worker-0", "a pod of another job")))
    for plural, item in items:
        world.server.store.put("ADDED", plural, item)
    world.server.operator.due.clear()
    status = status_of(read_snapshot(world.cluster(), NAMESPACE, "job"))
    assert 'job-worker-3: MountVolume.SetUp failed : secret "s" not found' in status.message
    assert f"job-worker-39: {full}" in status.message
    assert "other-worker-0" not in status.message
    assert len(world.server.requests) <= 9
