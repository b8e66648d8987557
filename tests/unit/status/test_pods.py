# SPDX-License-Identifier: Apache-2.0
"""Pods that do not start, and containers that end again and again: what `status` says of each."""

from __future__ import annotations

from typing import Any

import pytest

from mpikit.status.verdict import Status, status_of
from tests.support.states import CREATED, RUNNING, RUNS, SETTING_UP, before, container, ended, event, job, pod, snapshot

Object = dict[str, Any]
BACK_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=c pod=p"}
LAUNCHER = pod("launcher", "Running", container("launcher", running=RUNNING))


def judged(*pods: Object, conditions: tuple[Object, ...] = (CREATED,), **more: Any) -> Status:
    return status_of(snapshot(job(*conditions), *pods, **more))


def worker(main: Object, *init: Object, native: bool = False, phase: str = "Pending") -> Object:
    """A worker whose containers are restarted in place."""
    kind = {"restartPolicy": "Always"} if native else {}
    spec = {"restartPolicy": "OnFailure", "initContainers": [{"name": one["name"], **kind} for one in init]}
    return pod("worker", phase, main, init=list(init), spec=spec)


WAITS = container("worker", waiting=SETTING_UP)
FAST = {"terminated": ended(9, seconds=20, start=23)}  # a run of 3 s that failed


@pytest.mark.parametrize(
    "found",
    [
        worker(WAITS, container("c", waiting=BACK_OFF, restarts=3, last=FAST)),
        worker(WAITS, container("c", terminated=ended(9), restarts=1, last=FAST)),
        worker(WAITS, container("c", running=RUNNING, restarts=1, last=FAST)),
        worker(WAITS, container("b", terminated=ended(0)), container("c", running=RUNNING, restarts=7, last=FAST)),
        worker(WAITS, container("c", waiting=SETTING_UP, restarts=1, last=FAST)),
        worker(WAITS, container("c", waiting=BACK_OFF, restarts=3, last=FAST), native=True),
        worker(WAITS, container("c", terminated=ended(9), restarts=1, last=FAST), native=True),
        worker(WAITS, container("c", running={"startedAt": before(1)}, restarts=2, last=FAST), native=True),
        worker(container("c", waiting=BACK_OFF, restarts=2, last=FAST), phase="Running"),
        worker(container("c", terminated=ended(9), restarts=1, last=FAST), phase="Running"),
        worker(container("c", running={"startedAt": before(2)}, restarts=2, last=FAST), phase="Running"),
    ],
    ids=lambda found: str([one["state"] for one in found["status"]["initContainerStatuses"]]),
)
def test_a_container_that_ends_again_and_again_is_named_between_two_tries_too(found: Object) -> None:
    status = judged(LAUNCHER, found)
    assert (status.verdict, status.reason) == ("Stalled", "CrashLoopBackOff")
    assert "vit-worker-0: container c ended with exit code 9 and was restarted" in status.message
    assert "kubectl -n lab logs vit-worker-0 -c c --previous shows why container c ends" in status.advice


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (worker(WAITS, container("c", running=RUNNING)), "Starting"),
        (
            worker(
                container("worker", running=RUNNING),
                container("c", terminated=ended(0), restarts=2, last=FAST),
                phase="Running",
            ),
            "Running",
        ),
        (worker(container("worker", running=RUNNING, restarts=5, last=FAST), phase="Running"), "Running"),
        (worker(container("worker", waiting=SETTING_UP, restarts=1, last=FAST)), "Starting"),  # a node that came back
        (
            worker(container("worker", running={"startedAt": before(1)}, restarts=1, last=FAST), phase="Running"),
            "Running",
        ),
        (
            worker(
                container(
                    "worker",
                    running={"startedAt": before(1)},
                    restarts=2,
                    last={"terminated": ended(137, 5, start=90000)},
                ),
                phase="Running",
            ),
            "Running",
        ),
        (
            worker(
                container("worker", running=RUNNING),
                container("proxy", running=RUNNING, restarts=2, last=FAST),
                native=True,
                phase="Running",
            ),
            "Running",
        ),
    ],
)
def test_a_container_that_has_recovered_is_not_called_stalled(found: Object, verdict: str) -> None:
    assert judged(LAUNCHER, found, conditions=(CREATED, RUNS)).verdict == verdict


def test_the_launchers_init_container_is_not_a_retry_of_its_job() -> None:
    init = container("fetch", running=RUNNING, restarts=2, last=FAST)
    spec = {"restartPolicy": "OnFailure", "initContainers": [{"name": "fetch"}]}
    waits = container("launcher", waiting=SETTING_UP)
    status = judged(pod("launcher", "Pending", waits, init=[init], spec=spec))
    assert status.reason == "CrashLoopBackOff"
    assert "logs vit-launcher-x -c fetch --previous" in status.advice


def test_a_worker_that_is_restarted_in_place_is_not_called_over() -> None:
    found = worker(container("worker", terminated=ended(3)), phase="Running")
    assert judged(LAUNCHER, found).reason == "PodsStarting"


# -- Several pods that do not start -----------------------------------------------------------------------------------


def slow(number: int) -> Object:
    waits = container("worker", waiting={"reason": "ContainerCreating"})
    return pod("worker", "Pending", waits, name=f"vit-worker-{number}", node=f"n{number}")


MISSING = 'MountVolume.SetUp failed for volume "d" : hostPath type check failed: /data is not a directory'
FULL = "Failed to create pod sandbox: mkdir /run/x: no space left on device"


def test_every_cause_of_pods_that_do_not_start_is_named() -> None:
    pods = [slow(number) for number in range(6)]
    told = [event(f"vit-worker-{number}", "FailedMount", MISSING) for number in range(5)]
    status = judged(LAUNCHER, *pods, events=[*told, event("vit-worker-5", "FailedCreatePodSandBox", FULL)])
    assert (status.verdict, status.reason) == ("Stalled", "FailedMount")
    assert f"vit-worker-0, vit-worker-1, vit-worker-2 and 2 others: {MISSING}; vit-worker-5: {FULL}" in status.message
    assert "correct d: in the values (/data on node n0)" in status.advice
    assert "the disk of node n5 is full" in status.advice


def test_more_causes_than_fit_are_counted() -> None:
    pods = [slow(number) for number in range(5)]
    told = [
        event(f"vit-worker-{number}", "FailedMount", f'MountVolume.SetUp failed : secret "s{number}" not found')
        for number in range(5)
    ]
    status = judged(LAUNCHER, *pods, events=told)
    assert 'vit-worker-2: MountVolume.SetUp failed : secret "s2" not found; and 2 more causes' in status.message


def test_an_event_of_an_earlier_pod_of_the_same_name_does_not_count() -> None:
    told = event("vit-worker-0", "FailedMount", MISSING, uid="uid-of-an-earlier-pod")
    assert judged(LAUNCHER, slow(0), events=[told]).verdict == "Starting"
