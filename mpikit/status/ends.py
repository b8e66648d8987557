# SPDX-License-Identifier: Apache-2.0
"""Verdicts on pods that ended, or whose node does not answer. Each function returns one verdict, or None."""

from __future__ import annotations

from datetime import datetime, timedelta

from mpikit.diagnostics import Finding
from mpikit.kube.kubelet import End, end_of
from mpikit.kube.pods import Pod
from mpikit.kube.resources import MPIJob, finalizers_of
from mpikit.sidecars import remedy_of
from mpikit.status.advice import anew, delete_it, eviction, frees, meaning
from mpikit.status.snapshot import Snapshot
from mpikit.text.units import duration

SIDECAR_SECONDS = 30.0  # a sidecar that ends by itself does so within its grace period
GONE_SECONDS = 30.0  # after the grace period: the kubelet may be slow


def left_open(pod: Pod | None, now: datetime) -> bool:
    """Return whether a sidecar has kept a pod running since its main container ended."""
    return bool(
        pod and pod.sidecars and not pod.deleted and pod.ended and now - pod.ended > timedelta(seconds=SIDECAR_SECONDS)
    )


def sidecar(snapshot: Snapshot) -> Finding | None:
    """The launcher's main container has ended, and a sidecar keeps its pod and the job open."""
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    if not launcher or not launcher.sidecars or launcher.deleted:
        return None
    code, names = launcher.exit_code or 0, ", ".join(launcher.sidecars)
    what = f"container {launcher.main} of {launcher.name} ended with exit code {code}"
    if not left_open(launcher, snapshot.now):
        message = f"{what}; {names} still runs"
        return Finding("Running", launcher.ended, "Ending", message, f"wait a moment for MPIJob {job.name}")
    known = meaning(code, job) if code else ""
    message = f"{what}{f' ({known})' if known else ''}; sidecar {names} still runs and keeps the MPIJob open"
    free = frees(snapshot) or f"{delete_it(snapshot)} ends it"
    look = f"python generate.py logs {job.name} -n {job.namespace} shows why; " if code else ""
    advice = f"{look}{free}; for the next run, {remedy_of(launcher.sidecars, job.ours)}"
    return Finding("Failed" if code else "Succeeded", launcher.ended, "SidecarRunning", message, advice)


def evicted(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    pod = next((pod for pod in snapshot.current if pod.evicted and pod.phase == "Failed"), None)
    if pod is None or (pod.role == "launcher" and job.backoff_limit):  # its Job makes another one
        return None
    return eviction(pod, job, None)


def lost(snapshot: Snapshot) -> Finding | None:
    """A node does not answer, or a pod that is being deleted does not go."""
    job = snapshot.job
    assert job
    for pod in snapshot.current:
        away = pod.unreachable
        stuck = bool(pod.deleted and snapshot.now - pod.deleted > timedelta(seconds=GONE_SECONDS))
        if away:
            return _lost_node(snapshot, pod, away, job)
        if stuck and pod.deleted:
            return _stuck(snapshot, pod, pod.deleted, job)
    return None


def _lost_node(snapshot: Snapshot, pod: Pod, since: datetime, job: MPIJob) -> Finding:
    names = [one.name for one in snapshot.current if one.unreachable and one.node == pod.node]
    target = pod.disruption
    state = "is being deleted" if pod.deleted else "is unknown"
    why = f" ({target.reason})" if target else ""
    message = f"node {pod.node} does not answer: the state of {', '.join(names)} {state}{why}"
    advice = (
        f"kubectl get node {pod.node}: if it comes back, wait; if not, and the node is off, "
        f"kubectl -n {job.namespace} delete pod {' '.join(names)} --force lets the MPI Operator replace them"
    )
    return Finding("Stalled", since, "NodeLost", message, advice)


def _stuck(snapshot: Snapshot, pod: Pod, since: datetime, job: MPIJob) -> Finding:
    late = duration((snapshot.now - since).total_seconds())
    finalizers = finalizers_of(pod.raw)
    message = f"{pod.name} on {pod.node or 'no node'} is still being deleted, {late} after its grace period"
    message += f" ({pod.disruption.reason})" if pod.disruption else ""
    if finalizers:
        message += f"; it waits for the finalizer {', '.join(finalizers)}"
        advice = f"the controller of that finalizer must end: kubectl -n {job.namespace} describe pod {pod.name}"
    else:
        advice = (
            f"kubectl get node {pod.node}: a node that is off keeps its pods; if it does not come back, "
            f"kubectl -n {job.namespace} delete pod {pod.name} --force"
        )
    return Finding("Stalled", since, "Terminating", message, advice)


def dead_worker(snapshot: Snapshot) -> Finding | None:
    """A worker ended before the launcher: the operator does not restart it, and the launcher may wait for it."""
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    dead = next((pod for pod in snapshot.workers if _ended(pod)), None)
    if dead is None or (launcher and launcher.exit_code is not None):
        return None
    end = end_of(dead)
    message = f"{dead.name} {end.words}, and is not restarted"
    return Finding("Stalled", dead.ended or dead.created, end.reason, message, _worker_advice(dead, end, job))


def _ended(pod: Pod) -> bool:
    ended = pod.exit_code is not None and not pod.deleted and not pod.restarts_in_place
    return pod.phase == "Failed" or ended


def _worker_advice(pod: Pod, end: End, job: MPIJob) -> str:
    if end.rejected and "Running" not in job.conditions:
        return f"{end.advice}; kubectl -n {job.namespace} delete pod {pod.name}: the MPI Operator creates it again"
    if not (end.by_code or end.container):
        return f"{end.advice}; {anew(job)}"
    container = f" -c {end.container}" if end.container else ""
    return f"kubectl -n {job.namespace} logs {pod.name}{container} shows why Pod {pod.name} ended; {anew(job)}"


def disrupted(snapshot: Snapshot) -> Finding | None:
    """Kubernetes ends a pod that still runs: preemption, a drain, or a taint of its node."""
    job = snapshot.job
    assert job
    pod = next((pod for pod in snapshot.current if pod.disruption and pod.phase not in ("Succeeded", "Failed")), None)
    if pod is None:
        return None
    end = end_of(pod)
    message = f"{pod.name} {end.words}"
    advice = f"{end.advice}; wait: the MPI Operator replaces Pod {pod.name} once it is gone"
    if pod.role == "launcher":
        advice = f"{end.advice}; wait until Pod {pod.name} has ended"
    return Finding("Disrupted", pod.disruption.since if pod.disruption else None, end.reason, message, advice)
