# SPDX-License-Identifier: Apache-2.0
"""Verdicts on pods that do not run. Each function returns one verdict, or None if it does not apply."""

from __future__ import annotations

import re
from datetime import timedelta

from mpikit.diagnostics import Finding
from mpikit.kube.kubelet import BLOCKED_REASONS, CRASHED, STUCK_REASONS, crash_of, understand_stuck
from mpikit.kube.pods import Pod
from mpikit.kube.rejections import understand
from mpikit.kube.resources import Event, MPIJob
from mpikit.status.advice import anew, shortened, still_running
from mpikit.status.snapshot import Snapshot
from mpikit.text.nested import at
from mpikit.text.units import duration

OPERATOR_SECONDS = 30.0  # it answers within one; its queue may be long
MOUNT_SECONDS = 20.0  # the kubelet's first try may come before the cache of secrets is filled
CAUSES_SHOWN = 3  # of pods that do not start for different reasons
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
    message += "; it is tried again" if refusal.retried else ""
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
    for pod in snapshot.current:
        reason, message, image, _ = pod.waiting
        if reason in IMAGE_REASONS:
            secret = (
                "imagePullSecrets: if the registry requires a login" if "Never" not in reason else "imagePullPolicy:"
            )
            keys = "image:, or synapse: on Gaudi" if snapshot.job and snapshot.job.ours else "image of the pod template"
            advice = f"correct the image of MPIJob {snapshot.name} ({keys}), or {secret}; it is {image}"
            told = f"{pod.name}: {message or reason}"
            return Finding("ImagePullFailed", pod.created, reason, told, advice)
    return None


def unschedulable(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    for pod in snapshot.current:
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
    if re.search(r'persistentvolumeclaim "[^"]+" not found', message):
        return f"create the PersistentVolumeClaim that Pod {pod.name} names, or correct its name; {doctor}"
    if "PersistentVolumeClaim" in message or "persistentvolumeclaim" in message:
        return f"kubectl -n {job.namespace} get pvc shows which claim of Pod {pod.name} is not Bound, and describe pvc why; {doctor}"
    if "volume node affinity conflict" in message:
        return f"the claim of Pod {pod.name} is on a volume of other nodes: use one with accessModes: [ReadWriteMany] that all nodes reach; {doctor}"
    return f"kubectl -n {job.namespace} describe pod {pod.name}; {doctor}"


def gated(snapshot: Snapshot) -> Finding | None:
    """A scheduling gate keeps a pod from the scheduler until a controller removes it."""
    job = snapshot.job
    assert job
    pod = next((pod for pod in snapshot.current if pod.gates and not pod.node), None)
    if pod is None:
        return None
    names = ", ".join(pod.gates)
    running = still_running(snapshot)
    message = f"{pod.name}: the scheduler waits for the scheduling gate {names}" + (f"; {running}" if running else "")
    advice = (
        f"the controller that owns gate {names} removes it; if none does, remove schedulingGates from the pod templates"
    )
    if any("kueue" in name for name in pod.gates):
        advice = f"Kueue has not admitted it yet: kubectl -n {job.namespace} get workloads"
    return Finding("Pending", pod.created, "SchedulingGated", message, advice)


def stuck(snapshot: Snapshot) -> Finding | None:
    """Pods have a node that cannot give them their network, volumes or devices: the kubelet tries forever."""
    job = snapshot.job
    assert job
    causes: dict[str, list[tuple[Pod, Event]]] = {}
    for pod in snapshot.current:
        if event := _stuck_event(snapshot, pod):
            text = understand_stuck(event.message, pod, snapshot.namespace).text
            causes.setdefault(text.replace(pod.node, "").replace(pod.name, ""), []).append((pod, event))
    if not causes:
        return None
    shown = list(causes.values())[:CAUSES_SHOWN]
    found = [understand_stuck(event.message, pod, snapshot.namespace) for ((pod, event), *_) in shown]
    fixes = "; ".join(one.text if job.ours else one.text.replace(": in the values", "") for one in found)
    told = anew(job) if any(one.anew for one in found) else "the kubelet tries again by itself"
    message = "; ".join(f"{shortened([pod.name for pod, _ in same])}: {same[0][1].message}" for same in shown)
    if more := len(causes) - len(shown):
        message += f"; and {more} more {'cause' if more == 1 else 'causes'}"
    first = shown[0][0][1]
    return Finding("Stalled", first.first, first.reason, message, f"{fixes}; {told}")


def _stuck_event(snapshot: Snapshot, pod: Pod) -> Event | None:
    """Return the last event that says why a pod does not start; the kubelet's first tries do not count."""
    if not pod.node or pod.started or not pod.created:
        return None
    own = [event for event in snapshot.events_of(pod.name) if event.uid in ("", pod.uid)]
    faults = [event for event in own if event.reason in STUCK_REASONS and "cache: timed out" not in event.message]
    return faults[-1] if faults and snapshot.now - pod.created > timedelta(seconds=MOUNT_SECONDS) else None


def crashing(snapshot: Snapshot) -> Finding | None:
    """A container ends again and again; the launcher's main one is retried by its Job."""
    job = snapshot.job
    assert job
    for pod in snapshot.current:
        crash = crash_of(pod, snapshot.now)
        if crash is None or (pod.role == "launcher" and crash.container == pod.main):
            continue
        look = f"kubectl -n {job.namespace} logs {pod.name} -c {crash.container} --previous"
        message = f"{pod.name}: {crash.words}" + (f"; {crash.message}" if crash.message else "")
        advice = f"{look} shows why container {crash.container} ends; {anew(job)}"
        return Finding("Stalled", pod.created, CRASHED, message, advice)
    return None


def blocked(snapshot: Snapshot) -> Finding | None:
    """A container cannot be made."""
    job = snapshot.job
    assert job
    for pod in snapshot.current:
        reason, told, *_ = pod.waiting
        if reason in BLOCKED_REASONS:
            return Finding("Stalled", pod.created, reason, f"{pod.name}: {told or reason}", _blocked_advice(pod, job))
    return None


def _blocked_advice(pod: Pod, job: MPIJob) -> str:
    _, told, _, container = pod.waiting
    missing = re.search(r'(configmap|secret) "([^"]+)" not found', told)
    if missing:
        return f"{missing[1]} {missing[2]} does not exist in namespace {job.namespace}: create it (the kubelet tries again by itself), or correct env: and {anew(job)}"
    if "no space left on device" in told.lower():
        look = understand_stuck(told, pod, job.namespace).text
    else:
        look = f"correct what the message names of container {container} (kubectl -n {job.namespace} describe pod {pod.name})"
    return f"{look}; {anew(job)}"


def starting(snapshot: Snapshot) -> Finding | None:
    """Pods exist, and not all of them run yet."""
    job = snapshot.job
    assert job
    if not snapshot.pods:
        return None
    slow = next((pod for pod in snapshot.current if pod.node and not pod.started), None)
    if slow:
        events = snapshot.events_of(slow.name)
        reasons = [event.reason for event in events]
        if reasons and reasons[-1] == "Pulling":
            advice = f"wait: the first image pull on a node takes minutes; kubectl -n {job.namespace} describe pod {slow.name}"
            return Finding("Pulling", events[-1].first, "Pulling", f"{slow.name}: {events[-1].message}", advice)
        message = f"{slow.name} on {slow.node}: {slow.waiting.reason or slow.phase}"
        return Finding("Starting", slow.created, "ContainerCreating", message, f"wait for Pod {slow.name}")
    running = sum(pod.alive for pod in snapshot.current)
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
