# SPDX-License-Identifier: Apache-2.0
"""Read the lines of a job: wait for them, follow them over restarts, read output/ once the pods are gone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from mpikit.errors import ClusterError, Forbidden, JobError, NotFound, Timeout, TooSlow, Unreachable
from mpikit.kube.api import MPIJOB, POD, find
from mpikit.kube.client import Cluster
from mpikit.kube.pods import OVER, Pod, ordered
from mpikit.kube.resources import MPIJob
from mpikit.lifecycle.log_stream import ContainerLog
from mpikit.status.ends import left_open
from mpikit.status.snapshot import no_job, pods_of, read_snapshot
from mpikit.status.verdict import Status, status_of
from mpikit.text.nested import at

LOOK_SECONDS = 2.0  # between two looks for a pod
TELL_SECONDS = 10.0  # between two looks at why it does not exist
PATIENT_SECONDS = 60.0  # without -f, for a pod that does not exist yet
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 20.0
AWAY_SECONDS = 600.0
MOST_TRIES = 8
MOST_LOST = 3  # looks at a pod that shows no restart although its log begins anew: then its file was rotated
Found = TypeVar("Found")
_OTHER_RANK = re.compile(rb"\[rank \d+\] ")
_NOT_A_RANK = re.compile(rb"run_vit\.sh: |\[\S+-worker-\d+\] ")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: the launcher's with those of all ranks, one rank's among them, or those of a worker pod."""

    role: Literal["launcher", "worker"] = "launcher"
    index: int = 0
    rank: int | None = None

    def __str__(self) -> str:
        return "the launcher" if self.role == "launcher" else f"worker {self.index}"

    def keeps(self, line: bytes) -> bool:
        """Return whether a line is wanted."""
        if self.rank is None:
            return True
        if self.rank:
            return line.startswith(b"[rank %d] " % self.rank)
        return not _OTHER_RANK.match(line) and not _NOT_A_RANK.match(line)

    def among(self, pods: tuple[Pod, ...]) -> list[Pod]:
        """Return the pods of this role, the newest last."""
        own = [pod for pod in pods if pod.role == self.role]
        return own if self.role == "launcher" else [pod for pod in own if pod.name.endswith(f"-{self.index}")]


class JobLog:
    """The log of one job."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, wanted: Wanted, tell: Callable[[str], object]
    ) -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self.wanted, self.tell = wanted, tell
        self.last_job: MPIJob | None = None
        self.reached = False
        self.left_open = False
        """Only a sidecar still runs in the pod."""

    def lines(self, *, follow: bool, previous: bool = False, tail: int | None = None) -> Iterator[bytes]:
        """Yield the lines wanted; with `follow` until the job has ended."""
        source = self._previous() if previous else self._followed(tail) if follow else self._once(tail)
        return (line for line in source if self.wanted.keeps(line))

    def _once(self, tail: int | None) -> Iterator[bytes]:
        pod = self._await_pod(set(), self.cluster.clock() + PATIENT_SECONDS)
        if pod is None:
            yield from self._kept(tail)
            return
        log = self._log_of(pod, tail=tail)
        if pod.exit_code is not None:
            yield from _drained(log)
            return
        yield from _so_far(log)

    def _previous(self) -> Iterator[bytes]:
        """Yield the lines of the attempt before: of the previous container in the same pod, or of the previous pod."""
        pods = self.wanted.among(self._pods())
        if pods and pods[-1].restarts:
            yield from _drained(self._log_of(pods[-1]), previous=True)
        elif len(pods) > 1:
            yield from _drained(self._log_of(pods[-2]))
        else:
            fix = f"python generate.py logs {self.name} -n {self.namespace} shows its only attempt"
            raise JobError(f"{self.wanted} of {self.name} has no earlier attempt", fix)

    def _followed(self, tail: int | None) -> Iterator[bytes]:
        """Yield the lines of this and every later attempt, until the job has ended."""
        done: set[str] = set()
        while pod := self._await_pod(done):
            if done:
                self.tell(f"--- {pod.name} continues")
            yield from self._pod_lines(pod, tail)
            done.add(pod.uid)
            if self.left_open or self._patiently(self._ended):
                return
        if not done:
            yield from self._kept(tail)

    def _pod_lines(self, pod: Pod, tail: int | None) -> Iterator[bytes]:
        """Yield the lines of all containers of one pod, restarts included."""
        run, log = pod.restarts, self._log_of(pod, tail=tail)
        outage, num_lost = _Outage(self.cluster, self.tell), 0
        while True:
            before = log.num_lines
            try:
                yield from log.read(follow=True, anywhere=num_lost > MOST_LOST)
                outage.over()
            except NotFound:
                return
            except Unreachable as broken:
                if log.num_lines > before:
                    outage.over()
                outage.pause(broken)
            except (Forbidden, TooSlow):
                raise
            except ClusterError:  # HTTP 400: the next container does not exist yet
                pass
            if log.num_lines in (0, before):  # the pod shows a moment later that its container has ended
                self.cluster.sleep(LOOK_SECONDS)
            now = self._same_pod(pod)
            if now is None:
                return
            num_lost = num_lost + 1 if log.lost else 0
            if now.restarts > run:
                yield from _drained(log, previous=True, anywhere=True)
                self.tell(f"--- {pod.name} restarted (restart {now.restarts})")
                run, log = now.restarts, self._log_of(pod)
            elif now.exit_code is not None:
                over = now.phase in OVER
                yield from _drained(log, anywhere=over)
                if over or self._patiently(self._ended) or self._only_sidecars(now):
                    return
                self.cluster.sleep(LOOK_SECONDS)

    def _only_sidecars(self, pod: Pod) -> bool:
        """Return whether only a sidecar has run for a while, and no line can follow; announce it."""
        self.left_open = left_open(pod, self.cluster.now())
        if self.left_open:
            self.tell(f"--- {pod.main} of {pod.name} has ended; sidecar {', '.join(pod.sidecars)} still runs")
        return self.left_open

    def _log_of(self, pod: Pod, *, tail: int | None = None) -> ContainerLog:
        return ContainerLog(self.cluster, self.namespace, pod.name, pod.main, tail=tail)

    def _same_pod(self, pod: Pod) -> Pod | None:
        """Return the pod as it is now, or None if it is gone or another has its name."""
        try:
            found = find(self.cluster, POD, self.namespace, pod.name)
        except Unreachable:
            return pod  # unknown; the next try to read will show it
        return Pod(found) if found and at(found, "metadata", "uid") == pod.uid else None

    def _pods(self) -> tuple[Pod, ...]:
        return ordered(pods_of(self.cluster, self.namespace, self.name))

    def _job(self) -> MPIJob | None:
        found = find(self.cluster, MPIJOB, self.namespace, self.name)
        self.last_job = MPIJob(found) if found else self.last_job
        return MPIJob(found) if found else None

    def _ended(self) -> bool:
        """Return whether no further pod can start."""
        job = self._job()
        return job is None or job.finished is not None or job.deleted is not None

    def _patiently(self, look: Callable[[], Found]) -> Found:
        """Return what `look` finds; a server that has answered once may be away for a while."""
        outage = _Outage(self.cluster, self.tell)
        while True:
            try:
                found = look()
                self.reached = True
                return found
            except Unreachable as broken:
                if not self.reached:
                    raise
                outage.pause(broken)

    def _await_pod(self, done: set[str], deadline: float | None = None) -> Pod | None:
        """Wait for a started pod that is not in `done`; return None if the job ended without another."""
        told, looked_at = "", 0.0
        while True:
            ended, fresh = self._patiently(lambda: self._look(done))
            if fresh and fresh[-1].started:
                return fresh[-1]
            if ended:
                return None
            now = self.cluster.clock()
            if not looked_at or now - looked_at >= TELL_SECONDS:
                looked_at, status = now, self._status()
                if status.verdict == "Rejected" and status.reason == "ValidationError":
                    raise JobError(f"{self.name} has no pods: {status.message}", status.advice)
                if status.verdict != told:
                    told = status.verdict
                    self.tell(f"waiting for {self.wanted} of {self.name}: {status.verdict}: {status.message}")
            if deadline is not None and now >= deadline:
                status = self._status()
                text = f"{self.wanted} of {self.name} has no lines yet: {status.verdict}: {status.message}"
                raise Timeout(text, f"{status.advice}; -f waits without a limit")
            self.cluster.sleep(LOOK_SECONDS)

    def _look(self, done: set[str]) -> tuple[bool, list[Pod]]:
        """Return whether the job has ended, and the pods wanted that are not in `done`. Raises NotFound."""
        ended = self._ended()
        if not done and ended and self.last_job is None:
            raise no_job(self.name, self.namespace)
        return ended, [pod for pod in self.wanted.among(self._pods()) if pod.uid not in done]

    def _status(self) -> Status:
        return self._patiently(lambda: status_of(read_snapshot(self.cluster, self.namespace, self.name)))

    def _kept(self, tail: int | None) -> Iterator[bytes]:
        """Yield the copy under output/ if that folder is mounted here. Raises JobError, which names the place."""
        notes = self.last_job.annotations if self.last_job else {}
        place, run = notes.get("mpikit/output", ""), notes.get("mpikit/run", "")
        files = (
            kept_files(Path(place), run, self.name) if place.startswith("/") and self.wanted.role == "launcher" else []
        )
        if not files:
            where = (
                f"kept in {place}: logs/{self.name}.launcher.log and {run}/logs/"
                if place
                else "not kept, because output: is not set"
            )
            fix = "read them where that folder is mounted" if place else "set output: to keep the lines of the next job"
            raise JobError(f"{self.wanted} of {self.name} has no pod any more; its lines are {where}", fix)
        for file in files:
            self.tell(f"--- {file}")
            lines = file.read_bytes().splitlines()
            yield from lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]


def kept_files(output: Path, run: str, name: str) -> list[Path]:
    """Return the log files of the launcher and of rank 0's last attempt in the output folder."""
    attempts = sorted((output / run / "logs").glob("[0-9]*.log"))[-1:] if run else []
    launcher = output / "logs" / f"{name}.launcher.log"
    return [file for file in (launcher, *attempts) if file.is_file()]


class _Outage:
    """Pause between tries to open a stream, longer each time; announce it once."""

    def __init__(self, cluster: Cluster, tell: Callable[[str], object]) -> None:
        self.cluster, self.tell = cluster, tell
        self.over()

    def over(self) -> None:
        """Note that the stream works again."""
        self.seconds, self.next = 0.0, FIRST_PAUSE_SECONDS

    def pause(self, broken: Unreachable) -> None:
        """Wait before another try. Raises `broken` once it has lasted too long."""
        if self.seconds > AWAY_SECONDS:
            raise broken
        if self.seconds <= TELL_SECONDS < self.seconds + self.next:
            self.tell(f"{broken}; trying again".replace("\n", " "))
        self.cluster.sleep(self.next)
        self.seconds, self.next = self.seconds + self.next, min(2 * self.next, LONGEST_PAUSE_SECONDS)


def _so_far(log: ContainerLog) -> Iterator[bytes]:
    """Yield the lines so far of a container that still runs."""
    for last in (False,) * MOST_TRIES + (True,):
        try:
            yield from log.read(follow=False)
            break
        except NotFound:
            break
        except Unreachable:
            if last:
                raise
            log.cluster.sleep(FIRST_PAUSE_SECONDS)
    yield from log.rest_of()


def _drained(log: ContainerLog, *, previous: bool = False, anywhere: bool = False) -> Iterator[bytes]:
    """Yield all lines of an ended container: read until two whole answers in a row end at the same place."""
    tries = 0
    while True:
        before, end = log.num_lines, log.end
        try:
            yield from log.read(follow=False, previous=previous, anywhere=anywhere)
        except Unreachable:
            if tries == MOST_TRIES:
                raise
        except (Forbidden, TooSlow):
            raise
        except ClusterError:  # the container is not kept any more
            break
        if log.lost or (log.end is not None and log.end == end):
            break
        tries = 0 if log.num_lines > before else tries + 1
        if tries > MOST_TRIES:
            break
        log.cluster.sleep(FIRST_PAUSE_SECONDS * tries)
    yield from log.rest_of()
