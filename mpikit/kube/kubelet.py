# SPDX-License-Identifier: Apache-2.0
"""Explain what a node reports of a pod: why it does not start, and why it ended.

Sources: Kubernetes 1.35 (pkg/kubelet: events, eviction, preemption, nodeshutdown; pkg/controller: podgc, taint manager,
attach/detach) and public reports of CNI, CSI and NFS. One row for each message; the first match counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from mpikit.kube.pods import OVER, Pod
from mpikit.kube.resources import Object, time_of
from mpikit.text.nested import at

# Events of a pod that has a node and does not start: the kubelet, or the volume controller, tries again for ever.
STUCK_REASONS = (
    *("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "FailedCreatePodContainer"),
    *("NetworkNotReady", "FailedPrepareDynamicResources"),
)
CRASHED = "CrashLoopBackOff"
BLOCKED_REASONS = ("CreateContainerError", "CreateContainerConfigError", "RunContainerError")
STARTING_REASONS = ("PodInitializing", "ContainerCreating")
BACKOFF_SECONDS = 600.0  # after a run of this length the kubelet's back-off starts anew: the container did work

_DISK = "the disk of node {node} is full: ask the cluster's administrator to free space or to cordon it"
_NETWORK = (
    "the network of node {node} does not work (its CNI plugin): ask the cluster's administrator to repair or cordon it"
)

# pattern of the message, advice, whether the job must be submitted again; {node}, {pod}, {namespace} and the groups.
_STUCK: tuple[tuple[str, str, bool], ...] = (
    (
        r'Multi-Attach error for volume "(?P<volume>[^"]+)"',
        "volume {volume} is attached to another node and can be mounted on one node only (ReadWriteOnce): use a claim with "
        "accessModes: [ReadWriteMany] for folders of several pods; if the other pod belongs to an earlier job, wait until it ends",
        True,
    ),
    (
        r'(?P<kind>configmap|secret|persistentvolumeclaim) "(?P<name>[^"]+)" not found',
        "{kind} {name} does not exist in namespace {namespace}: create it, or correct its name",
        False,
    ),
    (
        r"references non-existent (?:secret|config) key: (?P<key>\S+)",
        "the Secret or ConfigMap of this volume has no key {key}: add it, or correct items:",
        False,
    ),
    (
        r'volume "(?P<volume>[^"]+)".*check failed: (?P<path>\S+) is not',
        "correct {volume}: in the values ({path} on node {node}): it must exist on every node",
        True,
    ),
    (r"(?i)no space left on device|disk quota exceeded", _DISK, False),
    (
        r"(?i)no IP addresses available|no available IP|failed to allocate for range|failed to assign an IP address"
        r"|InsufficientFreeAddresses|no free IP",
        "node {node} has no free pod address: wait until other pods on it end, or ask the cluster's administrator",
        False,
    ),
    (
        r"(?i)set ?up .*network|networkPlugin cni|cni plugin not initialized|network plugin is not ready|NetworkPluginNotReady"
        r'|plugin type="[^"]+" failed',
        _NETWORK,
        False,
    ),
    (
        r"failed to get sandbox image|pull(?:ing)? .*pause",
        "node {node} cannot pull its pause image: ask the cluster's administrator to repair or cordon it",
        False,
    ),
    (
        r"(?:no runtime for|RuntimeHandler|runtime handler) [\"']?(?P<handler>[\w.-]+)",
        "node {node} has no container runtime named {handler}: correct runtimeClassName: of the pod, or choose other nodes",
        True,
    ),
    (
        r"driver name (?P<driver>\S+) not found in the list of registered CSI drivers",
        "the storage driver {driver} does not run on node {node}: ask the cluster's administrator, or choose other nodes",
        False,
    ),
    (
        r"access denied by server|Permission denied|permission denied",
        "the storage server does not let node {node} mount it: ask the cluster's administrator about its exports or credentials",
        False,
    ),
    (
        r"mount\.nfs|No such file or directory|no such file or directory|does not exist",
        "what is to be mounted does not exist on the server or on node {node}: correct the path or the claim",
        True,
    ),
    (
        r"(?i)timed out|deadline exceeded|connection refused|no route to host",
        "the storage does not answer node {node}: kubectl -n {namespace} describe pod {pod} shows all tries",
        False,
    ),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and whether the pods must be made anew for it."""

    text: str
    anew: bool


def understand_stuck(message: str, pod: Pod, namespace: str) -> Advice:
    """Explain an event of a pod that does not start."""
    for pattern, advice, anew in _STUCK:
        if found := re.search(pattern, message, re.DOTALL):
            words = {name: text or "" for name, text in found.groupdict().items()}
            return Advice(advice.format(**words, node=pod.node, pod=pod.name, namespace=namespace), anew)
    return Advice(f"kubectl -n {namespace} describe pod {pod.name} shows all tries of node {pod.node}", False)


_NODE = "node {node} was lost or shut down: there is nothing to correct in the job"
_FULL = "node {node} had less to give than the scheduler assumed: there is nothing to correct in the job"

# Reasons of pods that failed as a whole, and of the condition DisruptionTarget; values and advice.
_ENDS: tuple[tuple[str, str], ...] = (
    (r"UnexpectedAdmissionError", "node {node} could not give the pod its devices (device plugin): kubectl describe node {node}"),
    (r"NodeAffinity|NodeSelectorMismatching", "the labels of node {node} do not match the pod any more: kubectl get node {node} --show-labels"),
    (r"OutOf.*|InsufficientResource.*", _FULL),
    (r"TopologyAffinityError|ResourcesNotAligned.*", "node {node} cannot align processors and devices: request all cards of a node, or none of its policy"),
    (r"DeadlineExceeded", "activeDeadlineSeconds of the pod is over: raise or remove it (podSpec: or the pod template)"),
    (r"Preempt.*", "a pod of higher priority took its place: set a higher priorityClassName:, or use it when the cluster is less busy"),
    (r"EvictionByEvictionAPI", "node {node} was drained (kubectl drain), or a controller evicted the pod: there is nothing to correct in the job"),
    (r"NodeLost|DeletionBy.*|NodeShutdown|Shutdown|Terminated|TerminationByKubelet", _NODE),
)  # fmt: skip
_ADMISSION = ("UnexpectedAdmissionError", "NodeAffinity", "TopologyAffinityError", "NodePorts", "PodOSNotSupported")


@dataclass(frozen=True, slots=True)
class End:
    """Why a pod ended."""

    reason: str
    """Of the pod, of its disruption, or WorkerFailed."""
    words: str
    """A clause whose subject is the pod: `failed: Preempting: ...`."""
    advice: str
    """What to correct; empty if only a log says."""
    container: str = ""
    """Whose log explains it; empty if no container did."""
    rejected: bool = False
    """The kubelet did not start it; another pod of the name may start."""

    @property
    def by_code(self) -> bool:
        """Whether the exit code of the main container explains it."""
        return not self.advice and not self.container


def end_of(pod: Pod) -> End:
    """Explain why a pod ended, or is being ended: the pod as a whole, an init container, the main one, or a sidecar."""
    disruption = pod.disruption
    if pod.reason or disruption:
        return _whole(pod)
    code = pod.exit_code
    failed = next((one for one in pod.containers if at(one, "state", "terminated", "exitCode")), None)
    name, other = (str(failed.get("name")), at(failed, "state", "terminated", "exitCode")) if failed else ("", None)
    if code is None and failed:
        return End(
            "InitContainerFailed", f"did not start: its init container {name} ended with exit code {other}", "", name
        )
    if code == 0 and failed:
        words = f"failed: its container {name} ended with exit code {other}, although {pod.main} ended with exit code 0"
        return End("SidecarFailed", words, "", name)
    if code is None:
        return End(
            "WorkerFailed",
            "failed, and its node reports no reason",
            f"kubectl describe pod {pod.name} shows its events",
        )
    killed = at(pod.main_status, "state", "terminated", "reason") == "OOMKilled"
    return End(
        "OOMKilled" if killed else "WorkerFailed",
        f"ended with exit code {code}" + (" (OOMKilled)" if killed else ""),
        "",
    )


def _whole(pod: Pod) -> End:
    """Explain the end of a pod as a whole; the condition DisruptionTarget is named beside the pod's own reason."""
    target = pod.disruption
    reason = pod.reason or (target.reason if target else "") or "Disrupted"
    message = pod.message or (target.message if target else "")
    named = f" ({target.reason})" if target and target.reason not in ("", reason) else ""
    verb = "failed" if pod.phase == "Failed" else "is being ended"
    advice = _of_reason(reason, pod, message) or _of_reason(target.reason if target else "", pod, message)
    advice = advice or f"kubectl describe pod {pod.name} shows its events"
    words = f"{verb}: {reason}" + (f": {message}" if message else "") + named
    return End(reason, words, advice, rejected=reason in _ADMISSION or reason.startswith("OutOf"))


def _of_reason(reason: str, pod: Pod, message: str) -> str:
    if reason == "Evicted":
        return understand_eviction(message, pod)
    node = pod.node or "of the pod"
    return next((advice.format(node=node) for pattern, advice in _ENDS if re.fullmatch(pattern, reason)), "")


# What a node was short of, and what to change; the kubelet's own words.
_EVICTIONS: tuple[tuple[str, str], ...] = (
    (r'Usage of EmptyDir volume "(?P<volume>[^"]+)" exceeds', "raise the sizeLimit of volume {volume} (shmSize: if it is /dev/shm), or write less to it"),
    (r"ephemeral[- ](?:local )?storage|exceeded its local", "raise resources.limits.ephemeral-storage, or write less outside of the volumes"),
    (r"low on resource: (?:nodefs|imagefs|inodes)|inodes", "node {node} ran out of disk space: use less scratch space, or ask the cluster's administrator"),
    (r"low on resource: memory|memory", "request the memory that it uses (resources.requests.memory), so that its node keeps it"),
    (r"pids|process", "node {node} ran out of process numbers: start fewer processes"),
)  # fmt: skip


def understand_eviction(message: str, pod: Pod) -> str:
    """Return what to change so that a pod is not evicted again."""
    for pattern, advice in _EVICTIONS:
        if found := re.search(pattern, message):
            return advice.format(**found.groupdict(), node=pod.node)
    return "raise the resource that the message names, or use less of it"


# -- Containers that end again and again ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crash:
    """A container that fails, and that the kubelet starts again."""

    container: str
    restarts: int
    code: int | None
    """Exit code of the last failure."""
    message: str
    """The kubelet's text while it waits; empty between two waits."""

    @property
    def words(self) -> str:
        """A clause about the container."""
        ended = "ends again and again" if self.code is None else f"ended with exit code {self.code}"
        times = {0: "", 1: " and was restarted once"}.get(self.restarts, f" and was restarted {self.restarts} times")
        return f"container {self.container} {ended}{times}"


def crash_of(pod: Pod, now: datetime) -> Crash | None:
    """Return the first container of a pod that fails again and again.

    The kubelet shows CrashLoopBackOff only while it waits. Between two waits such a container is running or terminated.
    """
    if pod.phase in OVER:
        return None
    return next((found for one in pod.containers if (found := _crash(pod, one, now))), None)


def _crash(pod: Pod, status: Object, now: datetime) -> Crash | None:
    waiting, restarts = at(status, "state", "waiting"), int(status.get("restartCount") or 0)
    ended = at(status, "state", "terminated") or at(status, "lastState", "terminated") or {}
    reason, code = at(waiting, "reason"), ended.get("exitCode")
    between = reason in (None, "", *STARTING_REASONS) and restarts and code and not _recovers(pod, status, ended, now)
    if reason != CRASHED and not between:
        return None
    name, message = str(status.get("name") or ""), str(at(waiting, "message") or "")
    return Crash(name, restarts, code, message)


def _recovers(pod: Pod, status: Object, ended: Object, now: datetime) -> bool:
    """Whether a restarted container works: its last run was long, or its present one is longer than that was.

    An init container works only once it has ended with exit code 0. One restart is not a loop.
    """
    if status.get("name") in pod.init_containers:
        return False
    last = _span(ended.get("startedAt"), time_of(ended.get("finishedAt")))
    if last.total_seconds() > BACKOFF_SECONDS:
        return True
    if at(status, "state", "terminated"):
        return False
    present = _span(at(status, "state", "running", "startedAt"), now)
    return int(status.get("restartCount") or 0) < 2 or present > last


def _span(start: str | None, end: datetime | None) -> timedelta:
    began = time_of(start)
    return end - began if began and end else timedelta(0)
