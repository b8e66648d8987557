# SPDX-License-Identifier: Apache-2.0
"""Verdicts on a job as a whole. Each function returns one verdict, or None if it does not apply."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from mpikit.diagnostics import Finding
from mpikit.kube.kubelet import end_of
from mpikit.kube.pods import OVER
from mpikit.kube.resources import RESUMING, Condition, MPIJob, conditions_of, finalizers_of
from mpikit.status.advice import again, anew, delete_it, eviction, frees, meaning, resumption
from mpikit.status.snapshot import Snapshot
from mpikit.status.suspects import repair_command, with_suspects
from mpikit.text.nested import at
from mpikit.text.units import duration


def deleted(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    held = sum(pod.held_cards for pod in snapshot.pods)
    names = ", ".join(pod.name for pod in snapshot.pods if pod.held_cards)
    left = f"; {names} still use {held} cards" if held else ""
    if job and not job.deleted:
        return None
    if job:
        return _being_deleted(snapshot, job, left)
    message = f"MPIJob {snapshot.name} not found in namespace {snapshot.namespace}{left}"
    advice = (
        f"{delete_it(snapshot)} removes what is left of it"
        if snapshot.pods
        else "submit it again if you want it: python generate.py submit"
    )
    return Finding("Deleted", None, "NotFound", message, advice)  # the time is unknown


def _being_deleted(snapshot: Snapshot, job: MPIJob, left: str) -> Finding:
    """The MPIJob has a deletionTimestamp; a finalizer keeps it until its controller has removed it."""
    message = f"MPIJob {job.name} is being deleted{left}"
    own = [name for name in finalizers_of(job.raw) if name not in ("foregroundDeletion", "orphan")]
    advice = (
        f"wait: the pods of MPIJob {job.name} end within their grace period"
        if snapshot.pods
        else "wait a moment: it has no pods any more"
    )
    if own:
        message += f"; it waits for the finalizer {', '.join(own)}"
        patch = """kubectl -n {} patch mpijob {} --type merge -p '{{"metadata":{{"finalizers":null}}}}'"""
        advice = (
            "the controller that set the finalizer removes it; if that controller is gone: "
            f"{patch.format(job.namespace, job.name)}"
        )
    return Finding("Deleted", job.deleted, "Deleting", message, advice)


def finished(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    if not job.finished:
        return None
    if job.holds("Succeeded"):
        condition = job.conditions["Succeeded"]
        advice = _results(snapshot, job)
        return Finding("Succeeded", job.finished, condition.reason, condition.message, advice)
    found = _failed(snapshot, job, job.conditions["Failed"], job.finished)
    free = frees(snapshot)
    return (
        replace(found, advice=f"{found.advice}; {free}") if free and delete_it(snapshot) not in found.advice else found
    )


def _results(snapshot: Snapshot, job: MPIJob) -> str:
    """Return where the results of a successful job are."""
    free = frees(snapshot)
    worker = next((pod for pod in snapshot.workers if pod.alive), None)
    if not job.ours:
        log = f"python generate.py logs {job.name} -n {job.namespace} shows its log"
        return free or (log if snapshot.launcher else "nothing to do: its pods are gone")
    if job.output:
        return f"the results are in output: {job.output}" + (f"; {free}" if free else "")
    if worker:
        copy = f"kubectl -n {job.namespace} cp {worker.name}:/output DIR"
        return f"output: was not set, so the results are in the pods only: {copy}; then {delete_it(snapshot)}"
    if "pods" in snapshot.unreadable:
        return "output: was not set, so the results are in the pods only, if they still exist"
    lost = "end with their pods" if snapshot.workers else "were deleted with the pods"
    keep = "set output: to keep those of the next run"
    return f"output: was not set, so the results {lost}; {keep}" + (f"; {free}" if free else "")


def _failed(snapshot: Snapshot, job: MPIJob, condition: Condition, since: datetime) -> Finding:
    evicted_pod = next((pod for pod in snapshot.current if pod.evicted), None)
    if evicted_pod:
        return eviction(evicted_pod, job, since)
    if condition.reason == "DeadlineExceeded":
        advice = f"raise runPolicy.activeDeadlineSeconds of MPIJob {job.name}, then {again(job)}{resumption(job)}"
        return Finding("Failed", since, condition.reason, condition.message, advice)
    return _failure(snapshot, job, condition, since)


def _failure(snapshot: Snapshot, job: MPIJob, condition: Condition, since: datetime) -> Finding:
    launcher = snapshot.launcher
    reason = condition.reason.rstrip("/") or "Failed"
    message = condition.message.removesuffix(": ").rstrip(":")
    if launcher is None or launcher.phase not in OVER:
        return Finding("Failed", since, reason, message, f"{_lost_log(snapshot, job)}; {again(job)}")
    end = end_of(launcher)
    if not end.by_code:
        parts = [message, f"{launcher.name} {end.words}"]
        look = f"kubectl -n {job.namespace} logs {launcher.name} -c {end.container} shows why"
        return Finding(
            "Failed",
            since,
            reason,
            "; ".join(filter(None, parts)),
            f"{end.advice or look}; then {again(job)}{resumption(job)}",
        )
    code = launcher.exit_code or 0
    known = meaning(code, job)
    parts = [message, f"exit code {code}" + (f": {known}" if known else ""), _cause(snapshot.lines)]
    return Finding("Failed", since, reason, "; ".join(filter(None, parts)), f"{_remedy(code, job)}; then {again(job)}")


def _lost_log(snapshot: Snapshot, job: MPIJob) -> str:
    """Return where the log of a launcher is whose pod is gone or cannot be read."""
    if "pods" in snapshot.unreadable:
        return f"its log says why, and you are not allowed to read pods in namespace {job.namespace}"
    if not job.ours:
        kept = "not kept: set restartPolicy Never for the launcher"
    elif job.output:
        kept = f"kept in {job.output}/logs/{job.name}.launcher.log"
    else:
        kept = "not kept: set output: and restartPolicy Never"
    return f"Pod {job.name}-launcher and its log were deleted after the last retry; its log is {kept}"


# Exit code: what to change. For other codes, of the trainer or mpirun, the last lines say more.
_REMEDIES: dict[int, str] = {
    1: "read the FAULT line of setup.sh (python generate.py logs {name} -n {namespace}) and correct the value that it names",
    2: "correct the value under train: that the trainer names (python generate.py logs {name} -n {namespace})",
    3: "wait for the other run of MPIJob {name}'s train.name to end, or set train.name:",
    4: "find the worker or card that hangs: kubectl -n {namespace} get pods -l training.kubeflow.org/job-name={name} -o wide",
    5: "lower train.learning_rate, or check the images",
    7: "correct output: of MPIJob {name}: it must be writable and have free space",
    8: "correct dataset: of MPIJob {name}: python generate.py logs {name} -n {namespace} names the images",
    127: "set image: of MPIJob {name} to one with Open MPI, sshd and Python",
    137: "raise resources.limits.memory of MPIJob {name}, or lower globalBatch or raise train.gradient_accumulation_steps",
    143: "MPIJob {name} was stopped on request: nothing to correct",
}


# Exit codes that mean the same in every image.
_ANY_REMEDIES: dict[int, str] = {
    127: "a command of the launcher is not in its image: correct command:, args: or image of MPIJob {name}",
    137: "raise resources.limits.memory of MPIJob {name}, or use less of it",
    143: _REMEDIES[143],
}


def _remedy(code: int, job: MPIJob) -> str:
    look = "read the last lines (python generate.py logs {name} -n {namespace})"
    usual = f"{look} and the events of its pods: a worker was lost" if code == 255 else look
    found = (_REMEDIES if job.ours else _ANY_REMEDIES).get(code, usual)
    return found.format(name=job.name, namespace=job.namespace)


def _cause(lines: list[str]) -> str:
    """Return the line of setup.sh, the trainer, mpirun or run_vit.sh that names the cause."""
    for pattern in (
        r"FAULT .*",
        r"vit\.train: .*",
        r".*signal 9.*|.*exited on$",
        r"run_vit\.sh: mpirun ended with .*",
        r"(?i).*\berror\b.*",
    ):
        found = [line.strip() for line in lines if re.search(pattern, line) and "checks failed" not in line]
        if found:
            return found[-1] if pattern.startswith("(?i)") else found[0]
    return ""


def suspended(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    if not job.suspended and not job.holds("Suspended"):
        return None
    condition = job.conditions.get("Suspended")
    patch = """kubectl -n {} patch mpijob {} --type merge -p '{{"spec":{{"runPolicy":{{"suspend":false}}}}}}'"""
    advice = f"resume it: {patch.format(job.namespace, job.name)}"
    if RESUMING in job.annotations:
        advice = f"{repair_command(job, job.excluded)} resumes it without {', '.join(job.excluded)}"
    if job.queue:
        advice = (
            f"LocalQueue {job.queue} has not admitted MPIJob {job.name} yet: kubectl -n {job.namespace} get workloads"
        )
    message = condition.message if condition else "spec.runPolicy.suspend is true"
    return Finding("Suspended", condition.since if condition else None, "Suspended", message, advice)


def retrying(snapshot: Snapshot) -> Finding | None:
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    failed = int(at(snapshot.launcher_job, "status", "failed") or 0)
    failures = max(failed, launcher.restarts if launcher else 0)
    if not failures:
        return None
    code = at(launcher.main_status, "lastState", "terminated", "exitCode") if launcher else None
    earlier = [end_of(pod) for pod in snapshot.pods if pod.role == "launcher" and pod.phase == "Failed"]
    exits = [pod.exit_code for pod in snapshot.pods if pod.role == "launcher" and pod.exit_code]
    code = code or (exits[-1] if exits else None)
    known = meaning(code, job) if code else ""
    how = f" with exit code {code}" + (f" ({known})" if known else "") if code else ""
    if earlier and not earlier[-1].by_code:
        how = f"; it {earlier[-1].words}"
    cause = _cause(snapshot.lines)
    message = f"the launcher failed {failures} times{how}".replace("1 times", "once") + (f"; {cause}" if cause else "")
    retries = f"MPIJob {job.name} fails after {job.backoff_limit} retries (runPolicy.backoffLimit)"
    since = launcher.created if launcher else None
    advice = f"{_earlier_log(snapshot, job)}{retries}"
    return Finding(f"Retrying {failures}/{job.backoff_limit}", since, "BackOff", message, advice)


def _earlier_log(snapshot: Snapshot, job: MPIJob) -> str:
    """Return the command that shows the log of the failed attempt, if there is one."""
    launchers = [pod for pod in snapshot.pods if pod.role == "launcher"]
    if not launchers:
        return ""
    newest = launchers[-1]
    if newest.phase in OVER and newest.exit_code is not None:
        return f"python generate.py logs {job.name} -n {job.namespace} shows the failure; "
    if newest.restarts or (len(launchers) > 1 and launchers[-2].exit_code is not None):
        return f"python generate.py logs {job.name} -n {job.namespace} --previous shows the last failure; "
    return ""


def ending(snapshot: Snapshot) -> Finding | None:
    """The launcher has ended, and the operator has not updated the job."""
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    target = conditions_of(snapshot.launcher_job).get("FailureTarget")
    if target and target.true:
        advice = f"wait: the pods of MPIJob {job.name} are being stopped"
        return Finding("Running", target.since, target.reason, f"{target.message}; the job is being stopped", advice)
    if launcher and launcher.phase in OVER:
        how = "ended with exit code 0" if launcher.phase == "Succeeded" else end_of(launcher).words
        message = f"{launcher.name} {how}; the MPI Operator has not updated the job yet"
        return Finding("Running", launcher.ended, "Ending", message, f"wait a moment for MPIJob {job.name}")
    return None


def running(snapshot: Snapshot) -> Finding | None:
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    condition, failed = job.conditions.get("Running"), job.conditions.get("Failed")
    alive = [pod for pod in snapshot.current if pod.alive]
    all_run = bool(launcher and launcher.alive) and len(alive) > job.workers
    advice = f"python generate.py logs -f {job.name} -n {job.namespace} shows its log"
    workers = f"{job.workers} {'worker' if job.workers == 1 else 'workers'}"
    nodes = len({pod.node for pod in snapshot.workers})
    where = f" on {nodes} {'node' if nodes == 1 else 'nodes'}" if nodes else ""
    if launcher and all_run and failed and failed.true:  # the operator never sets Running again
        message = (
            f"{launcher.name} and {workers} run{where}. Condition Failed ({failed.reason}: {failed.message}) "
            "is of a pod that has been replaced; the job goes on"
        )
        return Finding("Running", launcher.created, "MPIJobRunning", message, advice)
    if not (condition and condition.true and (all_run or "pods" in snapshot.unreadable)):
        return None
    message = condition.message + (f" {launcher.name} and {workers} run{where}." if launcher else "")
    message, advice = with_suspects(job, snapshot.lines, snapshot.workers, message, advice)
    return Finding("Running", condition.since, condition.reason, message, advice)


def silent(snapshot: Snapshot, limit: float) -> Finding | None:
    """The job runs and has printed nothing for long."""
    times = [moment for moment, _ in snapshot.log if moment]
    if not times or not snapshot.job:
        return None
    spoke = max(times[-1], snapshot.launcher.created) if snapshot.launcher and snapshot.launcher.created else times[-1]
    silent = (snapshot.now - spoke).total_seconds()
    if silent < limit:
        return None
    name, namespace = snapshot.name, snapshot.namespace
    message = f"the launcher has printed nothing for {duration(silent)}; its last line: {snapshot.lines[-1][:200]}"
    advice = (
        f"find the rank that hangs (kubectl -n {namespace} top pods; kubectl -n {namespace} exec {name}-worker-0 -- ps aux); "
        f"else {anew(snapshot.job)}"
    )
    return Finding("Stalled", spoke, "Silent", message, advice)
