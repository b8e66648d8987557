# SPDX-License-Identifier: Apache-2.0
"""Read the state of a job from the cluster in at most nine requests."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from mpikit.errors import ClusterError, Forbidden, NotFound
from mpikit.kube.answers import Object
from mpikit.kube.api import EVENT, JOB, MPIJOB, POD, QUOTA, find, find_all
from mpikit.kube.client import Call, Cluster
from mpikit.kube.ownership import belongs, launcher_job_name, owned_by_mpijob
from mpikit.kube.pods import DEFAULT_CONTAINER, Pod, ordered
from mpikit.kube.resources import JOB_NAME, Event, MPIJob, time_of
from mpikit.text.nested import at

TAIL_LINES = 400  # a restart prints 7 lines of setup.sh for each node; the reason of an end is among the last twenty
TAIL_BYTES = 1 << 18
_TIMED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ?(.*)")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one job at one moment."""

    name: str
    namespace: str
    now: datetime
    """By the server's clock."""
    job: MPIJob | None
    pods: tuple[Pod, ...] = ()
    launcher_job: Object | None = None
    events: tuple[Event, ...] = ()
    quotas: tuple[Object, ...] = ()
    log: tuple[tuple[datetime | None, str], ...] = ()
    """Last lines of the launcher with the time of each."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """What the user is not allowed to read, and the server's message."""

    @property
    def launcher(self) -> Pod | None:
        """The newest launcher."""
        launchers = [pod for pod in self.pods if pod.role == "launcher"]
        return launchers[-1] if launchers else None

    @property
    def workers(self) -> tuple[Pod, ...]:
        """The workers by their number."""
        return tuple(pod for pod in self.pods if pod.role == "worker")

    @property
    def current(self) -> tuple[Pod, ...]:
        """The pods of the present attempt: the newest launcher and the workers."""
        return (*([self.launcher] if self.launcher else []), *self.workers)

    @property
    def lines(self) -> list[str]:
        """The launcher's last lines."""
        return [text for _, text in self.log]

    def events_of(self, *names: str) -> list[Event]:
        """Return the events about objects of these names, the oldest first, without those of an earlier job."""
        mine = {self.job.uid} if self.job else set()
        found = [
            event
            for event in self.events
            if event.about in names and not (event.kind == "MPIJob" and mine and event.uid not in mine)
        ]
        return sorted(found, key=lambda event: str(event.last))


def no_job(name: str, namespace: str, more: str = "") -> NotFound:
    """Return the error for a job that does not exist; `more` is added to its message."""
    fix = f"python generate.py list -n {namespace}"
    return NotFound(f"MPIJob {name} not found in namespace {namespace}{more}", fix)


def read_snapshot(cluster: Cluster, namespace: str, name: str) -> Snapshot:
    """Read the state of one job."""
    unreadable: dict[str, str] = {}

    def readable(what: str, items: Iterable[Object]) -> tuple[Object, ...]:
        try:
            return tuple(items)
        except Forbidden as error:
            unreadable[what] = str(error)
            return ()

    found = find(cluster, MPIJOB, namespace, name)
    job = MPIJob(found) if found else None
    pods = ordered(readable("pods", pods_of(cluster, namespace, name)))
    launcher_job = None
    if job and job.synced and not job.finished:
        launcher_job = next(iter(readable("jobs", _launcher_job(cluster, namespace, name))), None)
    events: list[Event] = []
    for selector in _unclear(name, job, pods, launcher_job):
        events += [Event(item) for item in readable("events", find_all(cluster, EVENT, namespace, fields=selector))]
    quotas: tuple[Object, ...] = ()
    if any("exceeded quota" in event.message for event in events):
        quotas = readable("quotas", find_all(cluster, QUOTA, namespace))
    snapshot = Snapshot(name, namespace, cluster.now(), job, pods, launcher_job, tuple(events), quotas, (), unreadable)
    return _with_log(cluster, snapshot)


def _launcher_job(cluster: Cluster, namespace: str, name: str) -> list[Object]:
    found = find(cluster, JOB, namespace, launcher_job_name(name))
    return [found] if found and owned_by_mpijob(found, name) else []


def _unclear(name: str, job: MPIJob | None, pods: Sequence[Pod], launcher_job: Object | None) -> list[str]:
    """Return the field selectors, four at most, of the events that explain the state of the job.

    Of several slow pods all warnings are read, in one list of the namespace's: one pod's events say nothing of another.
    """
    if job is None or not job.synced:
        return [f"involvedObject.name={name}"]
    if job.finished or job.suspended:
        return []
    slow = [pod for pod in pods if pod.node and not pod.started and not pod.waiting.reason.startswith(("Err", "Image"))]
    subjects = [pod.name for pod in slow[:1]]
    if sum(pod.role == "worker" for pod in pods) < job.workers:
        subjects.append(name)
    if launcher_job and not any(pod.role == "launcher" for pod in pods):
        subjects.append(f"{name}-launcher")
    warnings = ["involvedObject.kind=Pod,type=Warning"] if len(slow) > 1 else []
    return [*(f"involvedObject.name={subject}" for subject in subjects[:3]), *warnings]


def _with_log(cluster: Cluster, snapshot: Snapshot) -> Snapshot:
    """Add the launcher's last lines: from its pod, else from output/ if that is readable here."""
    launcher = snapshot.launcher
    lines: list[str] = []
    if launcher and launcher.started:
        path = POD.path(snapshot.namespace, launcher.name, "log")
        query = {"tailLines": str(TAIL_LINES), "limitBytes": str(TAIL_BYTES), "timestamps": "true"}
        query |= {"container": launcher.main} if launcher.main else {}
        try:
            answer = cluster.request(Call("GET", path, query, accept="*/*", patient=False))
            lines = answer.data.decode(errors="replace").splitlines()
        except ClusterError as error:  # the node is lost or the pod is being deleted
            snapshot.unreadable["log"] = str(error)
    if not lines:
        lines = kept_lines(snapshot.job, "metrics.jsonl") if snapshot.job else []
    return replace(snapshot, log=tuple(_timed(line) for line in lines))


def kept_lines(job: MPIJob, name: str) -> list[str]:
    """Return the last lines of a file of the run, if output is a folder of this machine."""
    folder = job.annotations.get("mpikit/output", "")
    if not folder.startswith("/"):
        return []
    try:
        with (Path(folder) / job.annotations.get("mpikit/run", "") / name).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []


def _timed(line: str) -> tuple[datetime | None, str]:
    found = _TIMED.fullmatch(line)
    if not found:
        return None, line
    return time_of(f"{found[1]}{found[3]}"), found[4]


def read_all_snapshots(cluster: Cluster, namespace: str | None) -> list[Snapshot]:
    """Read the state of every job of a namespace, or of all namespaces, without logs."""
    unreadable: dict[str, str] = {}
    jobs = [MPIJob(_lean(item)) for item in find_all(cluster, MPIJOB, namespace)]
    pods: dict[tuple[str, str], list[Object]] = defaultdict(list)
    try:
        for item in find_all(cluster, POD, namespace, labels=JOB_NAME):
            owner = str(at(item, "metadata", "labels", JOB_NAME) or "")
            if belongs(item, owner):
                pods[item["metadata"]["namespace"], owner].append(_lean_pod(item))
    except Forbidden as error:
        unreadable["pods"] = str(error)
    events, launchers = defaultdict(list), {}
    unclear = [job for job in jobs if not job.finished and not job.holds("Running")]
    if unclear:
        try:
            for kind in ("MPIJob", "Job"):
                for item in find_all(cluster, EVENT, namespace, fields=f"involvedObject.kind={kind},type=Warning"):
                    about = str(at(item, "involvedObject", "name")).removesuffix("-launcher" if kind == "Job" else "")
                    events[item["metadata"]["namespace"], about].append(Event(_lean(item)))
            for item in find_all(cluster, JOB, namespace, labels=JOB_NAME):
                owner = str(at(item, "metadata", "labels", JOB_NAME) or "")
                if owned_by_mpijob(item, owner):
                    launchers[item["metadata"]["namespace"], owner] = _lean(item)
        except Forbidden as error:
            unreadable["events"] = str(error)
    now = cluster.now()
    found = []
    for job in jobs:
        place = job.namespace, job.name
        own = ordered(pods.pop(place, ()))
        told = tuple(events.get(place, ()))
        found.append(
            Snapshot(job.name, job.namespace, now, job, own, launchers.get(place), told, unreadable=unreadable)
        )
    orphans = [Snapshot(name, space, now, None, ordered(left)) for (space, name), left in pods.items()]
    return [*found, *orphans]


def _lean(item: Object) -> Object:
    """Return an object without managedFields, which are a third of it."""
    item["metadata"].pop("managedFields", None)
    return item


def _lean_pod(item: Object) -> Object:
    """Return the parts of a pod that a list needs: a thousand whole pods are 100 MB."""
    spec = item.get("spec", {})
    containers = [
        {"name": container.get("name"), "resources": container.get("resources")}
        for container in spec.get("containers", ())
    ]
    status = {
        name: value for name, value in item.get("status", {}).items() if name not in ("podIPs", "hostIPs", "qosClass")
    }
    kept = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp", "finalizers")
    metadata = {name: item["metadata"][name] for name in kept if name in item["metadata"]}
    if main := at(item, "metadata", "annotations", DEFAULT_CONTAINER):
        metadata["annotations"] = {DEFAULT_CONTAINER: main}
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": spec.get("nodeName"),
            "restartPolicy": spec.get("restartPolicy"),
            "containers": containers,
            "initContainers": [
                {"name": container.get("name"), "restartPolicy": container.get("restartPolicy")}
                for container in spec.get("initContainers") or ()
            ],
            "schedulingGates": spec.get("schedulingGates"),
        },
        "status": status,
    }


def pods_of(cluster: Cluster, namespace: str, name: str) -> Iterator[Object]:
    """Yield the pods of an MPIJob of this name, also if the MPIJob is gone."""
    found = find_all(cluster, POD, namespace, labels=f"{JOB_NAME}={name}")
    return (item for item in found if belongs(item, name))
