# SPDX-License-Identifier: Apache-2.0
"""The workers by state and the last event of a job, as the panel of `status --watch` shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from mpikit.kube.pods import Pod
from mpikit.kube.resources import Event, MPIJob
from mpikit.status.snapshot import Snapshot
from mpikit.status.verdict import status_of

NOW = datetime(2026, 11, 25, 3, tzinfo=timezone.utc)


def worker(number: int, **status: Any) -> Pod:
    labels = {"training.kubeflow.org/job-role": "worker", "training.kubeflow.org/job-name": "job"}
    metadata = {"name": f"job-worker-{number}", "labels": labels}
    return Pod({"metadata": metadata, "spec": {"containers": [{"name": "worker"}]}, "status": status})


def creating(number: int) -> Pod:
    waiting = {"name": "worker", "state": {"waiting": {"reason": "ContainerCreating"}}}
    return worker(number, phase="Pending", containerStatuses=[waiting])


def event(reason: str, minute: int) -> Event:
    about = {"kind": "Pod", "name": "job-worker-0"}
    return Event(
        {
            "involvedObject": about,
            "reason": reason,
            "message": "m",
            "type": "Warning",
            "lastTimestamp": f"2026-11-25T02:{minute}:00Z",
        }
    )


SPEC = {"slotsPerWorker": 8, "mpiReplicaSpecs": {"Worker": {"replicas": 4, "template": {"spec": {}}}}}
SNAPSHOT = Snapshot("job", "lab", NOW, MPIJob({"metadata": {"name": "job"}, "spec": SPEC}))


def test_workers_are_counted_by_state_the_most_frequent_first() -> None:
    running = {"name": "worker", "state": {"running": {}}}
    pods = (
        creating(0),
        *(worker(number, phase="Running", containerStatuses=[running]) for number in (1, 2)),
        worker(3, phase="Failed", reason="Evicted"),
    )
    assert status_of(replace(SNAPSHOT, pods=pods)).worker_states == (
        ("Running", 2),
        ("ContainerCreating", 1),
        ("Evicted", 1),
    )


def test_the_last_event_is_the_newest_of_the_cluster() -> None:
    found = status_of(replace(SNAPSHOT, events=(event("FailedMount", 40), event("Scheduled", 20)))).last_event
    assert found == (datetime(2026, 11, 25, 2, 40, tzinfo=timezone.utc), "job-worker-0: FailedMount: m")


def test_without_events_it_is_the_last_line_that_is_not_about_progress() -> None:
    log = ((NOW, "run_vit.sh: all 2 workers answer"), (NOW, "step=100/200 loss=0.5"), (None, ""))
    assert status_of(replace(SNAPSHOT, log=log)).last_event == (NOW, "run_vit.sh: all 2 workers answer")
    assert status_of(SNAPSHOT).last_event is None
