# SPDX-License-Identifier: Apache-2.0
"""Delete a job and all that belongs to it. Its output is never touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpikit.errors import Forbidden, NotFound, Timeout, ValuesError, one_fault
from mpikit.kube.answers import Object
from mpikit.kube.api import CONFIG_MAP, JOB, MPIJOB, POD, SERVICE, Kind, delete, find, find_all
from mpikit.kube.client import Cluster
from mpikit.kube.ownership import (
    launcher_job_name,
    mounted_config_maps,
    owned_by_launcher,
    owned_by_mpijob,
)
from mpikit.kube.pods import Pod
from mpikit.kube.resources import MANAGED_BY, USER, MPIJob, finalizers_of
from mpikit.status.snapshot import no_job, pods_of
from mpikit.text.nested import at
from mpikit.text.units import duration

COLLECT_SECONDS = 5.0  # Kubernetes deletes what a deleted job owned; if it collects nothing for so long, the rest stays
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    lines: tuple[str, ...]
    """In kubectl's words."""
    freed_cards: int


@dataclass(frozen=True, slots=True)
class Belongings:
    """An MPIJob and what belongs to it by its owner references."""

    job: Object | None
    launcher: Object | None
    """The launcher's Job."""
    pods: list[Pod]
    configs: list[Object]
    boards: list[tuple[Kind, Object]]
    """Job and Service of its TensorBoard, which have no owner."""

    @property
    def users(self) -> set[str]:
        """Values of the label mpikit/user on the objects that the kit created."""
        items = [*([self.job] if self.job else []), *self.configs, *(item for _, item in self.boards)]
        return {str(user) for item in items if (user := at(item, "metadata", "labels", USER))}


def find_belongings(cluster: Cluster, namespace: str, name: str) -> Belongings:
    """Find what belongs to the MPIJob of this name, also if the MPIJob is gone."""
    job = find(cluster, MPIJOB, namespace, name)
    uid = MPIJob(job).uid if job else ""
    launcher, pods = _left(cluster, namespace, name, uid)
    boards = [(kind, item) for kind in (JOB, SERVICE) for item in _boards(cluster, kind, namespace, name)]
    return Belongings(job, launcher, pods, _configs(cluster, namespace, name), boards)


def delete_job(
    cluster: Cluster,
    namespace: str,
    name: str,
    seconds: float,
    wait: bool,
    tell: Callable[[str], object],
    user: str | None = None,
) -> Deleted:
    """Delete a job, its ConfigMaps and its pods; with `wait`, return once its cards are free, or raise Timeout.

    Raises ValuesError for another user's job unless `user` is None.
    """
    found = find_belongings(cluster, namespace, name)
    if not (found.job or found.launcher or found.pods or found.configs or found.boards):
        raise no_job(name, namespace, ", nor anything that belonged to it")
    if user is not None and (others := sorted(found.users - {user})):
        raise _not_yours(name, others[0], user)
    held = sum(pod.held_cards for pod in found.pods)
    lines = [_removed(cluster, MPIJOB, namespace, found.job)] if found.job else []
    loose = [*found.boards, *((CONFIG_MAP, item) for item in found.configs)]
    lines += [_removed(cluster, kind, namespace, item) for kind, item in loose]
    if wait:
        if found.pods:
            tell(f"waiting until {len(found.pods)} pods have ended; they use {held} cards")
        lines += _await_pods(cluster, namespace, name, MPIJob(found.job).uid if found.job else "", seconds)
    return Deleted(tuple(line for line in lines if line), held)


def _not_yours(name: str, owner: str, user: str) -> ValuesError:
    if not user:
        fix = f"--set user={owner} if these are your jobs, or --force to delete it anyway"
        return one_fault("", f"MPIJob {name} belongs to {owner}, and your user name is unknown", fix, "NAME")
    fix = f"--set user={owner} if that is you, or --force to delete it anyway"
    return one_fault("", f"MPIJob {name} belongs to {owner}, not to {user}", fix, "NAME")


def _boards(cluster: Cluster, kind: Kind, namespace: str, name: str) -> list[Object]:
    """Return the objects of this kind that `tensorboard --job` made, as far as the server lists them for the user."""
    labels = f"{MANAGED_BY}=mpikit,app.kubernetes.io/instance={name},app.kubernetes.io/component=tensorboard"
    try:
        return list(find_all(cluster, kind, namespace, labels=labels))
    except (Forbidden, NotFound):
        return []


def _configs(cluster: Cluster, namespace: str, name: str) -> list[Object]:
    """Return the job's ConfigMaps, which have no owner, except those that another MPIJob mounts."""
    labels = f"app.kubernetes.io/managed-by=mpikit,app.kubernetes.io/instance={name}"
    found = list(find_all(cluster, CONFIG_MAP, namespace, labels=labels))
    if not found:
        return []
    others = [job for job in find_all(cluster, MPIJOB, namespace) if at(job, "metadata", "name") != name]
    mounted = set().union(*(mounted_config_maps(job) for job in others))
    return [item for item in found if at(item, "metadata", "name") not in mounted]


def _pods(cluster: Cluster, namespace: str, name: str, uid: str, launcher: Object | None) -> list[Pod]:
    """Return the pods that this MPIJob or its launcher's Job owns; without uid and Job, by their names."""
    job_uid = str(at(launcher, "metadata", "uid") or "")
    return [
        Pod(item)
        for item in pods_of(cluster, namespace, name)
        if owned_by_mpijob(item, name, uid) or owned_by_launcher(item, name, job_uid)
    ]


def _removed(cluster: Cluster, kind: Kind, namespace: str, item: Object) -> str:
    """Delete an object; return a line for it, empty if it was already gone."""
    name = str(item["metadata"]["name"])
    if not delete(cluster, kind, namespace, name, str(item["metadata"]["uid"])):
        return ""
    address = kind.plural.removesuffix("s") + (f".{kind.group}" if kind.group else "")
    return f'{address} "{name}" deleted'


def _await_pods(cluster: Cluster, namespace: str, name: str, uid: str, seconds: float) -> list[str]:
    """Wait until the job's pods are gone; delete those whose owner is gone and that Kubernetes does not collect."""
    start = collected = cluster.clock()
    lines: list[str] = []
    staying: set[str] = set()
    while True:
        job = find(cluster, MPIJOB, namespace, name)
        gone = job is None or at(job, "metadata", "uid") != uid
        if gone and job is not None:
            return lines  # a new job of the name exists by now; these pods are its own
        launcher, pods = _left(cluster, namespace, name, uid)
        if gone and not pods:
            return lines
        now, before = cluster.clock(), staying
        if now - start >= seconds:
            raise _not_gone(namespace, name, job, pods, now - start)
        staying = {pod.name for pod in pods if not pod.deleted}
        if staying != before:
            collected = now  # thousands of pods are collected one after the other
        if gone and now - collected >= COLLECT_SECONDS:
            lines += _orphans_removed(cluster, namespace, launcher, pods)
        cluster.sleep(LOOK_SECONDS)


def _left(cluster: Cluster, namespace: str, name: str, uid: str) -> tuple[Object | None, list[Pod]]:
    """Return the launcher's Job, if the user is allowed to read it, and the pods that are left."""
    try:
        launcher = find(cluster, JOB, namespace, launcher_job_name(name))
    except Forbidden:
        launcher = None
    pods = _pods(cluster, namespace, name, uid, launcher)
    if launcher and not owned_by_mpijob(launcher, name, uid):  # another Job of this name, with its own pods
        return None, [pod for pod in pods if owned_by_mpijob(pod.raw, name, uid)]
    return launcher, pods


def _orphans_removed(cluster: Cluster, namespace: str, launcher: Object | None, pods: list[Pod]) -> list[str]:
    """Delete the pods of a job that is gone, its launcher's Job first, which would create pods again."""
    lines = [_removed(cluster, JOB, namespace, launcher)] if launcher else []
    orphans = [pod.raw for pod in pods if not at(pod.raw, "metadata", "deletionTimestamp")]
    return [*lines, *(_removed(cluster, POD, namespace, pod) for pod in orphans)]


def _not_gone(namespace: str, name: str, job: Object | None, pods: list[Pod], waited: float) -> Timeout:
    left = [f"{pod.name} on {pod.node or 'no node'}{_kept_by(pod.raw)}" for pod in pods]
    left += [f"MPIJob {name}{_kept_by(job)}"] if job else []
    fix = f"python generate.py wait {name} -n {namespace} --for deleted waits on; a lost node keeps its pods"
    if job and finalizers_of(job):
        fix = f"python generate.py status {name} -n {namespace} shows how to remove the finalizer"
    return Timeout(f"deleted, but after {duration(waited)} these are left: {', '.join(left)}", fix)


def _kept_by(item: Object) -> str:
    names = ", ".join(finalizers_of(item))
    return f" (finalizer {names})" if names else ""
