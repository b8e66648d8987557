# SPDX-License-Identifier: Apache-2.0
"""Turn a snapshot of a job into one verdict, its reason, and the next step. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mpikit.diagnostics import Finding
from mpikit.kube.pods import Pod
from mpikit.status.advice import still_running
from mpikit.status.ends import dead_worker, disrupted, evicted, lost, sidecar
from mpikit.status.job import deleted, ending, finished, retrying, running, silent, suspended
from mpikit.status.pods import (
    blocked,
    crashing,
    gated,
    image,
    pending,
    refused,
    starting,
    stuck,
    unread,
    unschedulable,
)
from mpikit.status.progress import Progress, progress_of
from mpikit.status.recovering import recovering, with_fewer_nodes
from mpikit.status.snapshot import Snapshot
from mpikit.trainer import goodput_values, progress_values

SILENT_SECONDS = (
    900.0  # an evaluation or a checkpoint of the largest model on slow storage takes minutes, not this long
)
LAST_LINES = 8
_HALTED = ("Stalled", "Evicted", "ImagePullFailed", "Disrupted")


@dataclass(frozen=True, slots=True)
class Status:
    """What `status` and `list` show of a job."""

    name: str
    namespace: str
    verdict: str
    since: datetime | None
    reason: str
    message: str
    """The server's own message."""
    advice: str
    """The next step, and the object that it is about."""
    progress: Progress | None
    goodput: tuple[float, str] | None
    """Goodput in per cent, and the account of the job's time in one sentence."""
    user: str
    workers: int
    cards: int
    held_cards: int
    """Cards that its pods use now."""
    pods: tuple[int, int]
    """Running, wanted."""
    created: datetime | None
    finished: bool
    exit_code: int | None
    last_lines: tuple[str, ...]
    worker_states: tuple[tuple[str, int], ...] = ()
    """Number of workers in each state, the most frequent first."""
    last_event: tuple[datetime | None, str] | None = None
    """Newest event of the cluster, else newest line of the launcher that is not about progress."""

    def as_dict(self) -> dict[str, Any]:
        """The object of `status -o json`."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "verdict": self.verdict,
            "since": _text(self.since),
            "reason": self.reason,
            "message": self.message,
            "advice": self.advice,
            "progress": self.progress.as_dict() if self.progress else None,
            "goodput_percent": self.goodput[0] if self.goodput else None,
            "user": self.user,
            "nodes": self.workers,
            "cards": self.cards,
            "held_cards": self.held_cards,
            "pods_running": self.pods[0],
            "pods_wanted": self.pods[1],
            "created": _text(self.created),
            "finished": self.finished,
            "exit_code": self.exit_code,
            "last_lines": list(self.last_lines),
        }


def _text(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def _log_helps(verdict: str) -> bool:
    """Whether the launcher's last lines help to understand the verdict."""
    return verdict in ("Failed", "Evicted", "Stalled") or verdict.startswith(("Retrying", "Recovering"))


def _with_bill(found: Finding, snapshot: Snapshot) -> Finding:
    """Return the finding; if the job cannot go on, its message also says which pods run on and use cards."""
    ended = snapshot.job is None or snapshot.job.finished
    running = "" if ended or found.verdict not in _HALTED else still_running(snapshot)
    return replace(found, message=f"{found.message}; {running}") if running else found


def status_of(snapshot: Snapshot, silent_seconds: float = SILENT_SECONDS) -> Status:
    """Return the status of a job: the result of the first rule below that applies."""
    rules: tuple[Callable[[Snapshot], Finding | None], ...] = (
        *(deleted, finished, sidecar, suspended, recovering, evicted, refused, image, gated, unschedulable, lost),
        *(crashing, stuck, blocked, disrupted, dead_worker, retrying, ending, running, starting, unread, pending),
    )
    found = next(finding for rule in rules if (finding := rule(snapshot)))
    found = with_fewer_nodes(found, snapshot)
    if found.verdict == "Running":
        found = silent(snapshot, silent_seconds) or found
    found = _with_bill(found, snapshot)
    job, launcher = snapshot.job, snapshot.launcher
    ended = bool(job and job.finished) or found.reason == "SidecarRunning"
    lines = [line for line in snapshot.lines if line.strip() and progress_values(line) is None]
    return Status(
        snapshot.name,
        snapshot.namespace,
        *(found.verdict, found.since or (job.created if job else None), found.reason, found.message, found.advice),
        progress_of(snapshot.lines, job.num_steps if job else None),
        goodput=next(filter(None, map(goodput_values, reversed(snapshot.lines))), None),
        user=job.user if job else "",
        workers=job.workers if job else 0,
        cards=job.cards if job else 0,
        held_cards=sum(pod.held_cards for pod in snapshot.pods),
        pods=(sum(pod.alive for pod in snapshot.current), job.workers + 1 if job else 0),
        created=job.created if job else None,
        finished=ended,
        exit_code=launcher.exit_code if launcher else None,
        last_lines=tuple(lines[-LAST_LINES:]) if _log_helps(found.verdict) else (),
        worker_states=tuple(Counter(map(_state, snapshot.workers)).most_common()),
        last_event=_last_event(snapshot),
    )


def _state(pod: Pod) -> str:
    """Return the state of a pod in a word or two, as `kubectl get pods` has it."""
    if pod.deleted:
        return "Terminating"
    return pod.reason or pod.waiting.reason or (pod.phase if pod.alive or pod.phase != "Running" else "NotReady")


def _last_event(snapshot: Snapshot) -> tuple[datetime | None, str] | None:
    if snapshot.events:
        event = max(snapshot.events, key=lambda event: str(event.last))
        return event.last, f"{event.about}: {event.reason}: {event.message}"
    lines = [line for line in snapshot.log if line[1].strip() and progress_values(line[1]) is None]
    return lines[-1] if lines else None
