# SPDX-License-Identifier: Apache-2.0
"""Whether the launcher is starting the ranks again after a failure: the lines of vit.supervise in its log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mpikit.diagnostics import Finding
from mpikit.kube.pods import OVER
from mpikit.status.snapshot import Snapshot
from mpikit.status.suspects import with_suspects
from mpikit.text.nested import at
from mpikit.trainer import progress_values

_ENDED = re.compile(r"run_vit\.sh: attempt (\d+) ended after (\d+) s: (.*)")
_STARTS = re.compile(r"run_vit\.sh: attempt (\d+) of (\d+) starts in \d+ s and continues (.*)")
_FEWER = re.compile(r"run_vit\.sh: goes on with (\d+) of (\d+) nodes ")


@dataclass(frozen=True, slots=True)
class Recovery:
    """A restart that is under way."""

    attempt: int
    attempts: int
    since: datetime | None
    cause: str
    place: str
    """Where it continues, and the steps that are done again."""


def recovery_of(log: Iterable[tuple[datetime | None, str]]) -> Recovery | None:
    """Return the restart whose ranks have not reached a new step yet; None if there is none."""
    found, cause, since = None, "", None
    for moment, line in log:
        if ended := _ENDED.match(line):
            cause, since = ended[3], moment
        elif starts := _STARTS.match(line):
            found = Recovery(int(starts[1]), int(starts[2]), since or moment, cause, starts[3])
        elif progress_values(line):
            found = None
    return found


def _fewer_of(log: Iterable[tuple[datetime | None, str]]) -> tuple[str, str, datetime | None] | None:
    """Return how many nodes of how many train, and since when, if a job goes on without lost ones; else None."""
    found = None
    for moment, line in log:
        if fewer := _FEWER.match(line):
            found = fewer[1], fewer[2], moment
        elif _ENDED.match(line):
            found = None
    return found


def with_fewer_nodes(found: Finding, snapshot: Snapshot) -> Finding:
    """Return the finding, or that the job runs if what was found concerns only nodes that it goes on without."""
    job, launcher = snapshot.job, snapshot.launcher
    if job is None or job.finished or launcher is None or not launcher.alive or found.verdict.startswith("Recovering"):
        return found
    fewer = _fewer_of(snapshot.log)
    if fewer is None or launcher.name in found.message:
        return found
    message = f"trains with {fewer[0]} of {fewer[1]} nodes until the others are back"
    if found.verdict != "Running":
        message += f": {found.message}"
    return Finding("Running", fewer[2] or found.since, "FewerNodes", message, found.advice)


def recovering(snapshot: Snapshot) -> Finding | None:
    """The launcher waits for a lost worker, or starts the ranks again."""
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    if job.finished or launcher is None or launcher.phase != "Running" or launcher.exit_code is not None:
        return None
    recovery = recovery_of(snapshot.log)
    if recovery is None:
        return None
    message = f"after {recovery.cause or 'a failure'}; continues {recovery.place}"
    over = [pod for pod in snapshot.workers if pod.phase in OVER]
    ended = [pod.name for pod in over if not at(pod.raw, "metadata", "deletionTimestamp")]
    if ended:
        message += f"; Pod {', '.join(ended)} has ended, and nothing replaces it until it is deleted"
        advice = f"python generate.py repair {job.name} -n {job.namespace}"
    else:
        advice = f"wait: python generate.py logs -f {job.name} -n {job.namespace} shows what it waits for"
        message, advice = with_suspects(job, snapshot.lines, snapshot.workers, message, advice)
    verdict = f"Recovering {recovery.attempt}/{recovery.attempts}"
    return Finding(verdict, recovery.since, "Restart", message, advice)
