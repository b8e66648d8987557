# SPDX-License-Identifier: Apache-2.0
"""Whatever state a job is in: what `status` says of it is true in that state, and free of Python's own words."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import pytest

from mpikit.status.snapshot import Snapshot
from mpikit.status.verdict import Status, status_of
from tests.support.states import event, job, snapshot, states

Rule = Callable[[Snapshot, Status], bool]
OVER = ("Succeeded", "Failed")


@functools.cache
def judged() -> list[tuple[str, Snapshot, Status]]:
    return [(name, found, status_of(found)) for name, found in states()]


def said(status: Status) -> str:
    return f"{status.reason}: {status.message}\n{status.advice}"


def implies(pattern: str, so: Callable[[Snapshot, Status], object]) -> Rule:
    """What a text claims is so."""
    return lambda found, status: not re.search(pattern, said(status)) or bool(so(found, status))


def pods_named(found: Snapshot, status: Status) -> bool:
    """Pods that a command or a sentence names exist, but for the launcher that was deleted."""
    names = {pod.name for pod in found.pods}
    named = re.findall(r"(?:logs|cp|delete pod|describe pod|Pod) (vit-[a-z]+-\w+)", said(status))
    return all(name in names for name in named)


def log_exists(found: Snapshot, status: Status) -> bool:
    """A container whose log is to be read has run."""
    for name, container in re.findall(r"kubectl -n lab logs (\S+)(?: -c (\S+))?", status.advice):
        pod = next(pod for pod in found.pods if pod.name == name)
        container = container or pod.main
        ran = [one for one in pod.containers if one["name"] == container]
        if not ran or not (ran[0]["state"].keys() & {"running", "terminated"} or ran[0]["lastState"]):
            return False
    return True


def has_output(found: Snapshot, _: Status) -> bool:
    return found.job is not None and bool(found.job.output)


def is_ours(found: Snapshot, _: Status) -> bool:
    return found.job is None or found.job.ours


def over(found: Snapshot, status: Status) -> bool:
    return status.finished or bool(found.job and found.job.deleted)


RULES: dict[str, Rule] = {
    "no word of Python": lambda _, status: not re.search(r"\bNone\b|<class|Traceback|\[\]|\{\}|''|: ;|; ;|: :|;$|\(\)", said(status)),
    "every part is there": lambda _, status: bool(status.verdict and status.reason and status.message and status.advice),
    "a checkpoint outlives the pods": implies(r"resumes from|state is saved|continues", has_output),
    "output was not set": implies("output: (was|is) not set", lambda found, status: is_ours(found, status) and not has_output(found, status)),
    "the pods are gone": implies("deleted with the pods", lambda found, _: not found.workers),
    "the launcher is gone": implies("launcher and its log were deleted", lambda found, _: found.launcher is None or found.launcher.phase not in OVER),
    "only the kit's jobs have values": lambda found, status: is_ours(found, status) or not re.search(r"\b(output|resources|dataset|synapse|train\.\w+):|in the values|FAULT line|generate.py submit", status.advice),
    "a command names what exists": pods_named,
    "a log can be read": log_exists,
    "an earlier attempt exists": implies("--previous", lambda found, _: len(found.pods) > 1 or any(one["restartCount"] for pod in found.pods for one in pod.containers)),
    "a container that is restarted is not called over": implies("is not restarted", lambda found, _: any(pod.phase == "Failed" or not pod.restarts_in_place for pod in found.workers)),
    "a finished job is not waited for": implies(r"^.*\n(wait|.*; wait)", lambda _, status: not status.finished),
    "a finished job that holds cards is freed": lambda found, status: not (status.finished and status.held_cards) or "generate.py delete" in status.advice,
    "the same name is free again": implies("submit again", lambda found, status: "generate.py delete" in status.advice or found.job is None),
    "a finished verdict": lambda found, status: status.finished == bool(found.job and found.job.finished) or status.reason == "SidecarRunning",
    "an unfinished job is not called over": lambda found, status: status.verdict not in OVER or status.finished,
    "Running counts its pods": lambda found, status: status.reason != "MPIJobRunning" or status.pods[0] == status.pods[1],
    "a pod that ends does not run": lambda found, status: not any(pod.deleted or pod.unreachable for pod in found.current) or status.pods[0] < 2,
    "what runs on is said": lambda found, status: status.verdict not in ("Evicted", "Stalled", "Disrupted", "ImagePullFailed") or status.finished or not any(pod.alive for pod in found.current) or bool(re.search(r"still runs?", status.message)),
    "what holds cards is said": lambda found, status: status.reason != "NotFound" or not status.held_cards or "cards" in status.message,
    "since when": lambda found, status: status.since is not None or status.reason == "NotFound",
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_what_status_says_is_true_in_every_state(name: str) -> None:
    wrong = [
        f"{state}:\n  {status.verdict}, {said(status)}"
        for state, found, status in judged()
        if not RULES[name](found, status)
    ]
    assert not wrong, f"{len(wrong)} states, such as\n" + "\n".join(wrong[:: max(1, len(wrong) // 6)][:6])


def test_the_states_are_many_and_their_verdicts_differ() -> None:
    assert len(judged()) > 5000
    assert len({status.verdict for _, _, status in judged()}) >= 12
    assert len({status.reason for _, _, status in judged()}) >= 25


@pytest.mark.parametrize(
    ("text", "verdict", "reason", "retried"),
    [
        ('admission webhook "policy.example" denied the request: image not signed', "Rejected", "WebhookDenied", True),
        ('failed calling webhook "gate.example": Post "https://gate.svc": dial tcp: connect: connection refused', "Pending", "WebhookFailed", True),
        ('failed calling webhook "gate.example": x509: certificate has expired', "Pending", "WebhookFailed", True),
        ("unable to create new content in namespace lab because it is being terminated", "Rejected", "NamespaceTerminating", False),
        ('Pod "vit-worker-0" is invalid: spec.containers: Required value', "Rejected", "InvalidPod", False),
    ],
)  # fmt: skip
def test_a_refusal_that_is_retried_says_so(text: str, verdict: str, reason: str, retried: bool) -> None:
    told = event("vit", "MPIJobFailed", f"worker pod created failed: {text}", kind="MPIJob", uid="u")
    found = status_of(snapshot(job(), events=[told]))
    assert (found.verdict, found.reason) == (verdict, reason)
    assert ("it is tried again" in found.message) is retried
