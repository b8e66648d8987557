"""A job leaves the cluster with all that belongs to it. What it has written to output is never touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpikit.api import CONFIG_MAP, JOB, MPIJOB, POD, Kind, delete, find, find_all
from mpikit.cluster import Cluster, Object
from mpikit.errors import NotFound, Timeout
from mpikit.objects import JOB_NAME, MPIJob, Pod, at
from mpikit.progress import duration

COLLECT_SECONDS = 5.0  # Kubernetes itself removes what a deleted job owned; what is left after this has no owner
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was removed."""

    lines: tuple[str, ...]
    """As kubectl says it."""
    freed_cards: int


def delete_job(
    cluster: Cluster,
    namespace: str,
    name: str,
    seconds: float,
    wait: bool,
    tell: Callable[[str], object],
) -> Deleted:
    """Delete a job, its ConfigMaps and its pods; with `wait`, return once its cards are free, or raise Timeout."""
    found = find(cluster, MPIJOB, namespace, name)
    pods = _pods(cluster, namespace, name)
    configs = list(find_all(cluster, CONFIG_MAP, namespace, labels=_own_labels(name)))
    if not found and not pods and not configs:
        fix = f"python generate.py list -n {namespace} shows what is there"
        raise NotFound(f"there is no MPIJob {name} in namespace {namespace}, and nothing is left of one\n  fix: {fix}")
    held = sum(pod.held_cards for pod in pods)
    lines = [_removed(cluster, MPIJOB, namespace, found)] if found else []
    lines += [_removed(cluster, CONFIG_MAP, namespace, item) for item in configs]
    if wait:
        if pods:
            tell(f"waiting until {len(pods)} pods have ended; they hold {held} cards")
        lines += _await_pods(cluster, namespace, name, MPIJob(found).uid if found else "", seconds)
    return Deleted(tuple(line for line in lines if line), held)


def _own_labels(name: str) -> str:
    return f"app.kubernetes.io/managed-by=mpikit,app.kubernetes.io/instance={name}"


def _pods(cluster: Cluster, namespace: str, name: str) -> list[Pod]:
    return [Pod(item) for item in find_all(cluster, POD, namespace, labels=f"{JOB_NAME}={name}")]


def _removed(cluster: Cluster, kind: Kind, namespace: str, item: Object) -> str:
    """The line for a deletion; empty if it was gone already."""
    name = str(item["metadata"]["name"])
    if not delete(cluster, kind, namespace, name, str(item["metadata"]["uid"])):
        return ""
    address = kind.plural.removesuffix("s") + (f".{kind.group}" if kind.group else "")
    return f'{address} "{name}" deleted'


def _await_pods(cluster: Cluster, namespace: str, name: str, uid: str, seconds: float) -> list[str]:
    """Wait for the job's pods to go; those that nobody owns any more are deleted here."""
    start = cluster.clock()
    lines: list[str] = []
    while True:
        job = find(cluster, MPIJOB, namespace, name)
        gone = job is None or at(job, "metadata", "uid") != uid
        pods = _pods(cluster, namespace, name)
        if gone and job is not None:
            return lines  # a new job of the name is there by now; these pods are its own
        if gone and not pods:
            return lines
        waited = cluster.clock() - start
        if waited >= seconds:
            raise _not_gone(namespace, name, pods, waited)
        if gone and waited >= COLLECT_SECONDS:
            lines += _orphans_removed(cluster, namespace, name, pods)
        cluster.sleep(LOOK_SECONDS)


def _orphans_removed(cluster: Cluster, namespace: str, name: str, pods: list[Pod]) -> list[str]:
    """Delete what still runs of a job that is gone, its launcher's Job first, which would make pods again."""
    launcher = find(cluster, JOB, namespace, f"{name}-launcher")
    lines = []
    if launcher and at(launcher, "metadata", "labels", JOB_NAME) == name:
        lines.append(_removed(cluster, JOB, namespace, launcher))
    orphans = [pod.raw for pod in pods if not at(pod.raw, "metadata", "deletionTimestamp")]
    return [*lines, *(_removed(cluster, POD, namespace, pod) for pod in orphans)]


def _not_gone(namespace: str, name: str, pods: list[Pod], waited: float) -> Timeout:
    left = ", ".join(f"{pod.name} on {pod.node or 'no node'}" for pod in pods) or f"MPIJob {name}"
    fix = f"wait on: python generate.py wait {name} -n {namespace} --for deleted; a node that is lost keeps its pods"
    return Timeout(f"deleted, but after {duration(waited)} there still is {left}\n  fix: {fix}")
