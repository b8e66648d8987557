# SPDX-License-Identifier: Apache-2.0
"""Sentences of advice that depend on the state of a job: each is true in the state in which it is given."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from mpikit.diagnostics import Finding
from mpikit.kube.kubelet import end_of
from mpikit.kube.pods import Pod
from mpikit.kube.resources import MPIJob
from mpikit.text.units import another_name
from mpikit.trainer import EXIT_CODES

if TYPE_CHECKING:
    from mpikit.status.snapshot import Snapshot

NAMES_SHOWN = 3  # of pods that have the same fault
# Exit codes that mean the same in every image; the others are the trainer's.
_ANY_IMAGE = {137: EXIT_CODES[137], 143: "stopped as asked"}


def again(job: MPIJob) -> str:
    """Return how to run a finished job again."""
    if not job.ours:
        return "create it again under another name"
    return f"python generate.py submit --set name={another_name(job.name)}"


def anew(job: MPIJob) -> str:
    """Return how to replace a job that still has its name and its pods."""
    return f"python generate.py delete {job.name} -n {job.namespace}, then submit again{resumption(job)}"


def resumption(job: MPIJob) -> str:
    """Return where a new run of the job begins; empty if that is not known."""
    if not job.ours:
        return ""
    if job.annotations.get("mpikit/resume") == "never":
        return "; it starts at step 0 (train.resume: never)"
    if not job.output:
        return "; output: was not set, so it starts at step 0"
    return "; it resumes from the last checkpoint in output:, if it saved one"


def meaning(code: int, job: MPIJob) -> str:
    """Return what an exit code of the launcher means, without what is not so for this job; empty if not known."""
    if not job.ours or (code == 143 and not job.output):
        return _ANY_IMAGE.get(code, "")
    return EXIT_CODES.get(code, "")


def frees(snapshot: Snapshot) -> str:
    """Return the command that frees the cards of a job, if its pods use any."""
    held = sum(pod.held_cards for pod in snapshot.pods)
    return f"its pods still use {held} cards: {delete_it(snapshot)} frees them" if held else ""


def delete_it(snapshot: Snapshot) -> str:
    """Return the command that deletes the job."""
    return f"python generate.py delete {snapshot.name} -n {snapshot.namespace}"


def still_running(snapshot: Snapshot) -> str:
    """Return which pods run on and are billed; empty if none does."""
    left = [pod for pod in snapshot.current if pod.alive]
    if not left:
        return ""
    cards = sum(pod.held_cards for pod in left)
    launcher = [pod.name for pod in left if pod.role == "launcher"]
    workers = len(left) - len(launcher)
    parts = [*launcher, *([f"{workers} worker{'' if workers == 1 else 's'}"] if workers else [])]
    verb = "still run" if len(left) > 1 else "still runs"
    uses = "use" if len(left) > 1 else "uses"
    return f"{' and '.join(parts)} {verb}" + (f" and {uses} {cards} cards" if cards else "")


def eviction(pod: Pod, job: MPIJob, since: datetime | None) -> Finding:
    """Return the verdict on a job with an evicted pod; the MPI Operator calls it Failed, and the others run on."""
    end = end_of(pod)
    message = f"{pod.name}: {pod.evicted}"
    advice = f"Pod {pod.name} was evicted: {end.advice}, then {anew(job)}"
    return Finding("Evicted", since or pod.ended or pod.created, "Evicted", message, advice)


def shortened(names: Sequence[str]) -> str:
    """Return the first of many names, and how many others there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} {'other' if more == 1 else 'others'}" if more > 0 else "")
