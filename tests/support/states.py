# SPDX-License-Identifier: Apache-2.0
"""Snapshots of jobs in every state that a cluster can show; the objects are those that real servers sent."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from mpikit.kube.pods import ordered
from mpikit.kube.resources import Event, MPIJob
from mpikit.status.snapshot import Snapshot

Object = dict[str, Any]
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=timezone.utc)
CARD = "habana.ai/gaudi"


def before(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str = "True", reason: str = "", message: str = "", seconds: float = 60) -> Object:
    told = {"reason": reason, "message": message} if reason else {}
    return {"type": kind, "status": status, "lastTransitionTime": before(seconds), **told}


def container(name: str, **state: Object) -> Object:
    """The status of a container; lastState by the name last."""
    last, restarts = state.pop("last", {}), state.pop("restarts", 0)
    ready = "running" in state
    return {"name": name, "image": "i", "ready": ready, "restartCount": restarts, "state": state, "lastState": last}


RUNNING: Object = {"startedAt": before(500)}
SETTING_UP: Object = {"reason": "PodInitializing"}
IN_PLACE: Object = {"restartPolicy": "OnFailure", "initContainers": [{"name": "fetch"}]}
NATIVE: Object = {"restartPolicy": "Never", "initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}


def ended(code: int, seconds: float = 300, reason: str = "", start: float = 0) -> Object:
    """The state of a container that has ended; start: how many seconds ago its run began."""
    reason = reason or ("Error" if code else "Completed")
    began = {"startedAt": before(start)} if start else {}
    return {"exitCode": code, "reason": reason, "finishedAt": before(seconds), **began}


def pod(role: str, phase: str = "Running", *statuses: Object, name: str = "", node: str = "n1", **more: Any) -> Object:
    """A pod of job `vit`; more: status fields, and spec, init (statuses), deleted (seconds ago), finalizers."""
    name = name or ("vit-launcher-x" if role == "launcher" else "vit-worker-0")
    labels = {"training.kubeflow.org/job-name": "vit", "training.kubeflow.org/job-role": role}
    metadata: Object = {"name": name, "uid": f"uid-{name}", "creationTimestamp": before(600), "labels": labels}
    if "deleted" in more:
        metadata["deletionTimestamp"] = before(more.pop("deleted"))
    if "finalizers" in more:
        metadata["finalizers"] = more.pop("finalizers")
    resources = {"limits": {CARD: 8}} if role == "worker" else {}
    spec: Object = {"containers": [{"name": role, "resources": resources}], **more.pop("spec", {})}
    if node:
        spec["nodeName"] = node
    status = {
        "phase": phase,
        "containerStatuses": list(statuses),
        "initContainerStatuses": more.pop("init", []),
        **more,
    }
    return {"metadata": metadata, "spec": spec, "status": status}


def job(*conditions: Object, ours: bool = True, output: str = "", **more: Any) -> Object:
    """An MPIJob of one worker; more: metadata fields, completed, backoff_limit."""
    labels = {"app.kubernetes.io/managed-by": "mpikit", "mpikit/user": "ada"} if ours else {}
    notes = {"mpikit/num-steps": "100", "mpikit/run": "run"} if ours else {}
    notes |= {"mpikit/output": output} if output else {}
    status: Object = {"conditions": list(conditions)} if conditions else {}
    if more.pop("completed", False):
        status["completionTime"] = before(30)
    policy = {"backoffLimit": more.pop("backoff_limit", 0), "suspend": more.pop("suspend", False)}
    template = {"spec": {"containers": [{"name": "worker", "resources": {"limits": {CARD: 8}}}]}}
    metadata = {"name": "vit", "namespace": "lab", "uid": "u", "creationTimestamp": before(900)}
    metadata |= {"labels": labels, "annotations": notes, **more}
    replicas = {"Worker": {"replicas": 1, "template": template}}
    return {"metadata": metadata, "spec": {"runPolicy": policy, "mpiReplicaSpecs": replicas}, "status": status}


def event(about: str, reason: str, message: str, kind: str = "Pod", uid: str = "") -> Object:
    involved = {"name": about, "kind": kind, "uid": uid}
    return {"involvedObject": involved, "reason": reason, "message": message, "lastTimestamp": before(5)}


def snapshot(found: Object | None, *pods: Object, **more: Any) -> Snapshot:
    """What status reads; more: events, launcher_job, lines, unreadable."""
    log = tuple((NOW - timedelta(seconds=1), line) for line in more.pop("lines", ()))
    events = tuple(Event(item) for item in more.pop("events", ()))
    items = copy.deepcopy(pods)
    return Snapshot("vit", "lab", NOW, MPIJob(found) if found else None, ordered(items), log=log, events=events, **more)


# -- All states at once -----------------------------------------------------------------------------------------------

CREATED, RUNS = (
    condition("Created", reason="MPIJobCreated", message="created"),
    condition("Running", reason="MPIJobRunning", message="it is running."),
)
STOPPED = condition("Running", "False", "MPIJobRunning", "it is running.")
LIMIT = condition("Failed", reason="BackoffLimitExceeded/", message="Job has reached the specified backoff limit: ")
EVICTED = condition("Failed", reason="MPIJobEvicted", message="1/1 workers are evicted")
JOBS: dict[str, Mapping[str, Any]] = {
    "unseen": {"conditions": []},
    "created": {"conditions": [CREATED]},
    "running": {"conditions": [CREATED, RUNS]},
    "failed, not over": {"conditions": [CREATED, STOPPED, EVICTED]},
    "failed": {"conditions": [CREATED, STOPPED, LIMIT], "completed": True},
    "deadline": {
        "conditions": [CREATED, STOPPED, condition("Failed", reason="DeadlineExceeded", message="Job was active longer")],
        "completed": True,
    },
    "succeeded": {"conditions": [CREATED, STOPPED, condition("Succeeded", reason="MPIJobSucceeded", message="done")], "completed": True},
    "suspended": {"conditions": [CREATED, condition("Suspended", reason="MPIJobSuspended", message="suspended")], "suspend": True},
    "deleted": {"conditions": [CREATED, RUNS], "deletionTimestamp": before(50)},
    "deleted, with finalizer": {"conditions": [CREATED], "deletionTimestamp": before(50), "finalizers": ["lab.example/keep"]},
}  # fmt: skip


def whole(reason: str, message: str, target: str = "") -> Object:
    """Status fields of a pod that failed as a whole."""
    found: Object = {"reason": reason, "message": message}
    return found | ({"conditions": [condition("DisruptionTarget", reason=target, message=message)]} if target else {})


def launchers() -> dict[str, list[Object]]:
    """The launcher's pods."""
    main, proxy = "launcher", container("istio-proxy", running=RUNNING)
    crash = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
    return {
        "none": [],
        "running": [pod(main, "Running", container(main, running=RUNNING))],
        "exit 0": [pod(main, "Succeeded", container(main, terminated=ended(0)))],
        "exit 5": [pod(main, "Failed", container(main, terminated=ended(5)))],
        "exit 143": [pod(main, "Failed", container(main, terminated=ended(143)))],
        "failed, then running": [
            pod(main, "Failed", container(main, terminated=ended(7)), name="vit-launcher-a"),
            pod(main, "Running", container(main, running=RUNNING), name="vit-launcher-b"),
        ],
        "restarted": [pod(main, "Running", container(main, running=RUNNING, restarts=2, last={"terminated": ended(1)}))],
        "sidecar, exit 0": [pod(main, "Running", container(main, terminated=ended(0)), proxy)],
        "sidecar, exit 8": [pod(main, "Running", container(main, terminated=ended(8)), proxy)],
        "sidecar failed": [
            pod(main, "Failed", container(main, terminated=ended(0)), container("istio-proxy", terminated=ended(1)))
        ],
        "rejected": [pod(main, "Failed", **whole("UnexpectedAdmissionError", "Pod was rejected: Allocate failed"))],
        "preempted": [pod(main, "Failed", container(main, terminated=ended(143)), **whole("Preempting", "Preempted", "TerminationByKubelet"))],
        "init crashes": [
            pod(main, "Pending", container(main, waiting={"reason": "PodInitializing"}), init=[container("fetch", waiting=crash, restarts=3, last={"terminated": ended(4)})])
        ],
        "init runs again": [
            pod(main, "Pending", container(main, waiting=SETTING_UP), init=[container("fetch", running=RUNNING, restarts=1, last={"terminated": ended(4)})], spec=IN_PLACE)
        ],
        "init failed": [
            pod(main, "Failed", container(main, waiting={"reason": "PodInitializing"}), init=[container("fetch", terminated=ended(4))])
        ],
    }  # fmt: skip


def workers() -> dict[str, list[Object]]:
    """The worker's pod."""
    main = "worker"
    runs = container(main, running=RUNNING)
    unready = [condition("Ready", "False")]
    taint = condition(
        "DisruptionTarget", reason="DeletionByTaintManager", message="Taint manager: deleting due to NoExecute taint"
    )
    return {
        "none": [],
        "running": [pod(main, "Running", runs)],
        "starting": [pod(main, "Pending", container(main, waiting={"reason": "ContainerCreating"}))],
        "unschedulable": [pod(main, "Pending", node="", conditions=[condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available: 3 Insufficient habana.ai/gaudi.")])],
        "init failed again": [pod(main, "Pending", container(main, waiting=SETTING_UP), init=[container("fetch", terminated=ended(6), restarts=2, last={"terminated": ended(6)})], spec=IN_PLACE)],
        "native sidecar crashes": [pod(main, "Pending", container(main, waiting=SETTING_UP), init=[container("proxy", running={"startedAt": before(1)}, restarts=4, last={"terminated": ended(2, start=310)})], spec=NATIVE)],
        "restarts in place": [pod(main, "Running", container(main, terminated=ended(3), restarts=1, last={"terminated": ended(3)}), spec=IN_PLACE)],
        "recovered in place": [pod(main, "Running", container(main, running=RUNNING, restarts=3, last={"terminated": ended(3, start=310)}), spec=IN_PLACE)],
        "gated": [pod(main, "Pending", node="", spec={"schedulingGates": [{"name": "lab.example/wait"}]}, conditions=[condition("PodScheduled", "False", "SchedulingGated")])],
        "exit 1": [pod(main, "Failed", container(main, terminated=ended(1)))],
        "exit 0": [pod(main, "Succeeded", container(main, terminated=ended(0)))],
        "out of memory": [pod(main, "Failed", container(main, terminated=ended(137, reason="OOMKilled")))],
        "evicted": [pod(main, "Failed", container(main, terminated=ended(137)), **whole("Evicted", "The node was low on resource: memory.", "TerminationByKubelet"))],
        "no devices": [pod(main, "Failed", **whole("UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to no healthy devices"))],
        "shut down": [pod(main, "Failed", container(main, terminated=ended(137)), **whole("Terminated", "Pod was terminated in response to imminent node shutdown.", "TerminationByKubelet"))],
        "being preempted": [pod(main, "Running", runs, deleted=-20, conditions=[condition("DisruptionTarget", reason="PreemptionByScheduler", message="preempting")])],
        "node away": [pod(main, "Running", runs, conditions=unready)],
        "node lost": [pod(main, "Running", runs, deleted=200, conditions=[*unready, taint])],
        "held by a finalizer": [pod(main, "Running", runs, deleted=200, finalizers=["lab.example/keep"])],
        "no key": [pod(main, "Pending", container(main, waiting={"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}))],
        "image": [pod(main, "Pending", container(main, waiting={"reason": "ImagePullBackOff", "message": "Back-off"}))],
    }  # fmt: skip


FORBIDDEN = 'worker pod created failed: pods "vit-worker-0" is forbidden: '
EVENTS = (  # about, reason, message
    ("vit-worker-0", "FailedCreatePodSandBox", "Failed to create pod sandbox: cni plugin not initialized"),
    ("vit-worker-0", "FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) a'),
    ("vit-worker-0", "FailedMount", 'MountVolume.SetUp failed for volume "c" : configmap "c" not found'),
    ("vit-worker-0", "FailedMapVolume", "MapVolume.MapPodDevice failed: timed out"),
    ("vit-worker-0", "FailedPrepareDynamicResources", "Failed to prepare dynamic resources: no such claim"),
    ("vit", "MPIJobFailed", f'{FORBIDDEN}exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'),
    ("vit", "MPIJobFailed", f"{FORBIDDEN}unable to create new content in namespace lab because it is being terminated"),
    ("vit", "MPIJobFailed", 'worker pod created failed: admission webhook "v.example" denied the request: no'),
    ("vit", "MPIJobFailed", 'worker pod created failed: Internal error occurred: failed calling webhook "v.example": context deadline exceeded'),
    ("vit", "ValidationError", "Found validation errors: spec.slotsPerWorker: Invalid value: -1"),
)  # fmt: skip


def states() -> Iterator[tuple[str, Snapshot]]:
    """Every combination of a job, its launcher, its worker, its maker and its output."""
    owners = {"kit": (True, ""), "kit, with output": (True, "/results/ada"), "another": (False, "")}
    parts = itertools.product(JOBS.items(), launchers().items(), workers().items(), owners.items())
    for (name, what), (launcher, first), (worker, others), (owner, (ours, output)) in parts:
        more = dict(what)
        found = job(*more.pop("conditions"), ours=ours, output=output, backoff_limit=2, **more)
        failed = sum(item["status"]["phase"] == "Failed" for item in first)
        shown = None if "completed" in what else {"status": {"failed": failed}}
        yield (
            f"{name}; launcher {launcher}; worker {worker}; {owner}",
            snapshot(found, *first, *others, launcher_job=shown),
        )
    for (owner, (ours, output)), (about, reason, text) in itertools.product(owners.items(), EVENTS):
        waits = pod("worker", "Pending", container("worker", waiting={"reason": "ContainerCreating"}))
        told = event(about, reason, text, kind="MPIJob" if about == "vit" else "Pod", uid="u")
        pods = [*launchers()["running"], *([] if about == "vit" else [waits])]
        found = job(CREATED, ours=ours, output=output)
        yield f"{reason}: {text}; {owner}", snapshot(found, *pods, events=[told])
    yield "no job, a worker", snapshot(None, *workers()["running"])
