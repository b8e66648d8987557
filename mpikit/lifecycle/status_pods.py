# SPDX-License-Identifier: Apache-2.0
"""Verdicts on pods that do not run. Each function returns one verdict, or None if it does not apply."""

from __future__ import annotations

import re
from datetime import timedelta

from mpikit.diagnostics import Finding
from mpikit.kube.rejections import understand
from mpikit.kube.resources import Event, MPIJob, Pod
from mpikit.lifecycle.snapshot import Snapshot
from mpikit.text.nested import at
from mpikit.text.units import duration

OPERATOR_SECONDS = 30.0  # it answers within one; its queue may be long
MOUNT_SECONDS = 20.0  # the kubelet's first try may come before the cache of secrets is filled
IMAGE_REASONS = (
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"),
    *("RegistryUnavailable", "SignatureValidationFailed"),
)


def refused(snapshot: Snapshot) -> Finding | None:
    """The server rejected the job or some of its pods; the workers that run meanwhile use their cards."""
    job = snapshot.job
    assert job
    if job.managed_by and not job.synced:
        known = job.managed_by == "kueue.x-k8s.io/multikueue"
        message = f'spec.runPolicy.managedBy is "{job.managed_by}", so the MPI Operator ignores the job'
        advice = f"remove managedBy from MPIJob {job.name}, unless that controller runs in this cluster"
        return Finding("Pending" if known else "Rejected", job.created, "ManagedBy", message, advice)
    event = _refusal(snapshot, job)
    if event is None:
        return None
    refusal = understand(event.message, snapshot.namespace, snapshot.name)
    held = sum(pod.held_cards for pod in snapshot.pods)
    message = event.message + (f" (meanwhile its other pods use {held} cards)" if held else "")
    return Finding(refusal.verdict, event.first, refusal.reason, message, refusal.advice)


def _refusal(snapshot: Snapshot, job: MPIJob) -> Event | None:
    """Return the last event that explains why a pod is missing."""
    missing = []
    if not job.synced or len(snapshot.workers) < job.workers:
        missing += [
            event
            for event in snapshot.events_of(job.name)
            if event.reason in ("ValidationError", "MPIJobFailed") and event.kind == "MPIJob"
        ]
    if job.synced and snapshot.launcher is None and snapshot.launcher_job:
        uid = at(snapshot.launcher_job, "metadata", "uid")
        found = snapshot.events_of(f"{job.name}-launcher")
        missing += [event for event in found if event.reason == "FailedCreate" and event.uid == uid]
    return missing[-1] if missing else None


def image(snapshot: Snapshot) -> Finding | None:
    for pod in snapshot.pods:
        reason, message, image = pod.waiting
        if reason in IMAGE_REASONS:
            secret = (
                "imagePullSecrets: if the registry requires a login" if "Never" not in reason else "imagePullPolicy:"
            )
            advice = f"correct the image of MPIJob {snapshot.name} (image:, or synapse: on Gaudi), or {secret}; it is {image}"
            told = f"{pod.name}: {message or reason}"
            return Finding("ImagePullFailed", pod.created, reason, told, advice)
    return None


def unschedulable(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    for pod in snapshot.pods:
        if condition := pod.unschedulable:
            placed = sum(bool(other.node) for other in snapshot.pods)
            held = sum(other.held_cards for other in snapshot.pods)
            message = f"{pod.name}: {condition.message}"
            message += (
                f" ({placed} of {job.workers + 1} pods have a node and use {held} cards meanwhile)" if held else ""
            )
            return Finding(
                "Unschedulable", condition.since, condition.reason, message, _place_advice(pod, job, condition.message)
            )
    return None


def _place_advice(pod: Pod, job: MPIJob, message: str) -> str:
    """Return the values key to change so that a node can run the pod."""
    lacking = re.findall(r"Insufficient ([\w./-]+\w)", message)
    doctor = "python generate.py doctor shows free resources"
    role = "launcher" if pod.role == "launcher" else "worker"
    if lacking:
        keys = {"cpu": "resources", "memory": "resources"}
        names = [
            f"{keys.get(one, 'resources' if one.startswith('hugepages') else 'nodes or cards')} ({one})"
            for one in lacking
        ]
        less = ", ".join(dict.fromkeys(names))
        return f"wait until other jobs end, or submit MPIJob {job.name} with less: {less}; {doctor}"
    if "untolerated taint" in message:
        return f"set {role}.tolerations of MPIJob {job.name} for the taint named above; {doctor}"
    if "pod anti-affinity rules" in message:
        fewer = "with fewer nodes, or with worker.onePerNode: false so that workers share nodes"
        return f"wait for a node without such a pod, or submit MPIJob {job.name} {fewer}; {doctor}"
    if "pod topology spread constraints" in message:
        key = f"{role}.podSpec.topologySpreadConstraints"
        return f"set whenUnsatisfiable: ScheduleAnyway in {key} of MPIJob {job.name}; {doctor}"
    if "affinity/selector" in message:
        return f"correct {role}.nodeSelector of MPIJob {job.name}: no free node has these labels; {doctor}"
    if "persistentvolumeclaim" in message:
        return f"create the PersistentVolumeClaim that Pod {pod.name} names, or correct the {{pvc: NAME}} in the values; {doctor}"
    return f"kubectl -n {job.namespace} describe pod {pod.name}; {doctor}"


def mount(snapshot: Snapshot) -> Finding | None:
    """A pod has a node and cannot mount its volumes: the kubelet tries forever."""
    for pod in snapshot.pods:
        if not pod.node or pod.started:
            continue
        faults = [
            event for event in snapshot.events_of(pod.name) if event.reason in ("FailedMount", "FailedAttachVolume")
        ]
        faults = [event for event in faults if "cache: timed out" not in event.message]
        if faults and pod.created and snapshot.now - pod.created > timedelta(seconds=MOUNT_SECONDS):
            event = faults[-1]
            advice = _mount_advice(pod, event.message, snapshot)
            return Finding("Stalled", event.first, event.reason, f"{pod.name}: {event.message}", advice)
    return None


def _mount_advice(pod: Pod, message: str, snapshot: Snapshot) -> str:
    volume = (re.search(r'volume "([^"]+)"', message) or ["", ""])[1]
    again = f"then python generate.py delete {snapshot.name} -n {snapshot.namespace} and submit again"
    missing = re.search(r'(configmap|secret|persistentvolumeclaim) "([^"]+)" not found', message)
    if missing:
        return f"{missing[1]} {missing[2]} does not exist in namespace {snapshot.namespace}: create it, or {again.removeprefix('then ')}"
    path = (re.search(r"check failed: (\S+) is not", message) or ["", ""])[1]
    where = f" ({path} on node {pod.node})" if path else ""
    return f"correct {volume}: in the values{where}: it must exist on every node; {again}"


def dead_worker(snapshot: Snapshot) -> Finding | None:
    """A worker ended before the launcher: the operator does not restart it, and the launcher may wait for it."""
    job = snapshot.job
    assert job
    dead = next((pod for pod in snapshot.workers if pod.phase == "Failed"), None)
    waiting = next(
        (
            pod
            for pod in snapshot.workers
            if pod.waiting[0]
            in ("CrashLoopBackOff", "CreateContainerError", "CreateContainerConfigError", "RunContainerError")
        ),
        None,
    )
    if dead is None and waiting is None:
        return None
    again = f"python generate.py delete {job.name} -n {job.namespace}, then submit again"
    if dead:
        message = f"{dead.name} ended with exit code {dead.exit_code} and is not restarted; the launcher waits for it"
        advice = f"kubectl -n {job.namespace} logs {dead.name} shows why Pod {dead.name} ended; {again}"
        return Finding("Stalled", dead.ended, "WorkerFailed", message, advice)
    assert waiting
    reason, told, _ = waiting.waiting
    missing = re.search(r'(configmap|secret) "([^"]+)" not found', told)
    advice = f"kubectl -n {job.namespace} logs {waiting.name} --previous shows why Pod {waiting.name} ends; {again}"
    if missing:
        advice = f"{missing[1]} {missing[2]} does not exist in namespace {job.namespace}: create it, or correct env: in the values; {again}"
    return Finding("Stalled", waiting.created, reason, f"{waiting.name}: {told or reason}", advice)


def starting(snapshot: Snapshot) -> Finding | None:
    """Pods exist, and not all of them run yet."""
    job = snapshot.job
    assert job
    if not snapshot.pods:
        return None
    slow = next((pod for pod in snapshot.pods if pod.node and not pod.started), None)
    if slow:
        events = snapshot.events_of(slow.name)
        reasons = [event.reason for event in events]
        if reasons and reasons[-1] == "Pulling":
            advice = f"wait: the first image pull on a node takes minutes; kubectl -n {job.namespace} describe pod {slow.name}"
            return Finding("Pulling", events[-1].first, "Pulling", f"{slow.name}: {events[-1].message}", advice)
        message = f"{slow.name} on {slow.node}: {slow.waiting[0] or slow.phase}"
        return Finding("Starting", slow.created, "ContainerCreating", message, f"wait for Pod {slow.name}")
    running = sum(pod.phase == "Running" for pod in snapshot.pods)
    last = next((line for line in reversed(snapshot.lines) if line.startswith("run_vit.sh: ")), "")
    message = f"{running} of {job.workers + 1} pods run" + (f"; {last.removeprefix('run_vit.sh: ')}" if last else "")
    newest = max((pod.created for pod in snapshot.pods if pod.created), default=None)
    return Finding("Starting", newest, "PodsStarting", message, f"wait for the pods of MPIJob {job.name}")


def unread(snapshot: Snapshot) -> Finding | None:
    """The user is not allowed to read the pods, jobs or events."""
    for what in ("pods", "jobs", "events"):
        if what in snapshot.unreadable:
            advice = f"ask for a role that can list {what} in namespace {snapshot.namespace}; python generate.py doctor lists all missing rights"
            return Finding("Unknown", None, "Forbidden", snapshot.unreadable[what], advice)
    return None


def pending(snapshot: Snapshot) -> Finding:
    job = snapshot.job
    assert job
    age = (snapshot.now - job.created).total_seconds() if job.created else 0.0
    if not job.synced and age > OPERATOR_SECONDS:
        message = f"the MPI Operator has ignored it for {duration(age)}: it has no status and no event"
        advice = f"python generate.py doctor shows whether the operator runs; MPIJob {job.name} waits for it"
        return Finding("Pending", job.created, "NoOperator", message, advice)
    condition = job.conditions.get("Created")
    message = condition.message if condition else "the MPI Operator has not processed it yet"
    return Finding("Pending", job.created, "Created", message, f"wait a moment for MPIJob {job.name}")
