# SPDX-License-Identifier: Apache-2.0
"""Wait for a job: a watch that survives broken connections, with at most one request a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from mpikit.errors import Gone, JobError, Timeout, Unreachable
from mpikit.kube.api import MPIJOB, list_with_version, watch
from mpikit.kube.client import Cluster
from mpikit.kube.resources import MPIJob
from mpikit.status.snapshot import no_job, pods_of, read_snapshot
from mpikit.status.verdict import Status, status_of
from mpikit.text.units import duration

Goal = Literal["succeeded", "running", "deleted"]

WATCH_SECONDS = 20  # then pods and events are read too: they may show what the job object does not
AWAY_SECONDS = 600.0  # a server that is away for longer is reported; an upgrade of the control plane takes minutes
FIRST_LOOK_SECONDS = 3.0
REJECTED_SECONDS = 20.0  # a rejection may end by itself, for example when a service account is created a moment later
POD_SECONDS = 2.0  # between two looks at pods that are being deleted
LONGEST_PAUSE_SECONDS = 20.0


def versions_of(
    cluster: Cluster, namespace: str, name: str, deadline: float, quiet_seconds: int = WATCH_SECONDS
) -> Iterator[MPIJob | None]:
    """Yield the job (None if it does not exist) at once, on each change and after each quiet time.

    One list, then watches that go on where the last one ended; a list again when the server has forgotten the place.
    """
    fields = f"metadata.name={name}"
    version, job, away, pause = "", None, 0.0, 1.0
    while cluster.clock() < deadline:
        began = cluster.clock()
        try:
            if not version:
                items, version = list_with_version(cluster, MPIJOB, namespace, fields)
                job = MPIJob(items[0]) if items else None
                yield job
                began, pause, away = cluster.clock(), 1.0, 0.0
            quiet = max(1, round(min(quiet_seconds, deadline - cluster.clock())))
            for what, item in watch(cluster, MPIJOB, namespace, fields, version, quiet):
                version, pause, away = str(item["metadata"]["resourceVersion"]), 1.0, 0.0
                if what != "BOOKMARK":
                    job = None if what == "DELETED" else MPIJob(item)
                    yield job
                if cluster.clock() >= deadline:
                    return
            away = 0.0
            yield job
        except Gone:
            version = ""
        except Unreachable:
            away += cluster.clock() - began + pause
            if away > AWAY_SECONDS or not cluster.known:
                raise
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        if (rest := pause - (cluster.clock() - began)) > 0:
            cluster.sleep(min(rest, max(0.0, deadline - cluster.clock())))


def wait_for(
    cluster: Cluster, namespace: str, name: str, goal: Goal, seconds: float, tell: Callable[[Status], object]
) -> Status:
    """Return the status with which the goal is reached.

    JobError when it cannot be reached any more, Timeout when it is not in time; the status is their `status`. `tell`
    gets every new verdict.
    """
    deadline = cluster.until = min(cluster.until, cluster.clock() + seconds)
    watcher = _Watcher(cluster, namespace, name, goal, deadline, tell)
    for job in versions_of(cluster, namespace, name, deadline):
        try:
            status = watcher.looked_at(job)
        except Unreachable:
            if watcher.away_for_long():
                raise
            continue
        if status is not None:
            return status
    status = watcher.look()
    text = f"MPIJob {name} is {status.verdict} after {duration(seconds)}: {status.message}"
    raise _with_status(Timeout(text, f"nothing was changed; {status.advice}"), status)


def _with_status(error: JobError | Timeout, status: Status) -> JobError | Timeout:
    error.status = status
    return error


class _Watcher:
    """What a wait remembers from one look to the next."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, goal: Goal, deadline: float, tell: Callable[[Status], object]
    ) -> None:
        self.deadline = deadline
        self.cluster, self.namespace, self.name, self.goal, self.tell = cluster, namespace, name, goal, tell
        self.seen = False
        self.told = ""
        self.last_look = cluster.clock() + FIRST_LOOK_SECONDS - WATCH_SECONDS
        self.rejected_at: float | None = None
        self.failed_at: float | None = None

    def away_for_long(self) -> bool:
        """Note that a look has failed; return whether all have failed for long."""
        now = self.cluster.clock()
        self.failed_at = now if self.failed_at is None else self.failed_at
        return now - self.failed_at > AWAY_SECONDS

    def look(self) -> Status:
        """Read the whole status; announce it if its verdict is new."""
        self.last_look = self.cluster.clock()
        status = status_of(read_snapshot(self.cluster, self.namespace, self.name))
        self.failed_at = None
        if status.verdict != self.told:
            self.told = status.verdict
            self.tell(status)
        return status

    def looked_at(self, job: MPIJob | None) -> Status | None:
        """Return the status if the goal is reached with this version of the job, or None to wait on."""
        if job is None:
            return self._without_job()
        self.seen = True
        if job.finished:
            return None if self.goal == "deleted" else self._settled(self.look())
        if self.goal == "running" and job.holds("Running"):
            return self.look()
        if self.goal == "deleted" or self.cluster.clock() - self.last_look < WATCH_SECONDS:
            return None
        status = self.look()
        if status.finished or (self.goal == "running" and status.reason == "MPIJobRunning"):
            return self._settled(status)
        self._check(status)
        return None

    def _settled(self, status: Status) -> Status | None:
        """Return the status if it is final and good; raise JobError if it is a failure.

        It is final without the operator's completionTime if only a sidecar still runs.
        """
        if status.verdict in ("Succeeded", "Running"):
            return status
        if status.verdict in ("Failed", "Evicted"):
            raise _failure(status)
        return None  # it was deleted or made anew between two looks

    def _without_job(self) -> Status | None:
        if self.goal == "deleted":
            gone = pods_gone(self.cluster, self.namespace, self.name, self.deadline)
            return self.look() if gone else None
        if not self.seen:
            raise no_job(self.name, self.namespace)
        status = self.look()
        if status.verdict != "Deleted":
            return None
        raise _with_status(JobError(f"{status.message}: it was deleted", status.advice), status)

    def _check(self, status: Status) -> None:
        """Raise JobError for a job that has been rejected for a while."""
        if status.verdict != "Rejected":
            self.rejected_at = None
            return
        now = self.cluster.clock()
        self.rejected_at = now if self.rejected_at is None else self.rejected_at
        if status.reason == "ValidationError" or now - self.rejected_at >= REJECTED_SECONDS:
            raise _failure(status)


def pods_gone(cluster: Cluster, namespace: str, name: str, deadline: float) -> bool:
    """Wait until a job has no pod left; return False if it still has some at the deadline."""
    while list(pods_of(cluster, namespace, name)):
        if cluster.clock() + POD_SECONDS > deadline:
            return False
        cluster.sleep(POD_SECONDS)
    return True


def _failure(status: Status) -> JobError | Timeout:
    """Return the error of a failed job: why, its last lines, and what to do."""
    lines = "".join(f"\n  | {line}" for line in status.last_lines)
    text = f"MPIJob {status.name} {status.verdict}: {status.message}{lines}"
    return _with_status(JobError(text, status.advice), status)
