# SPDX-License-Identifier: Apache-2.0
"""Verdicts on a job as a whole. Each function returns one verdict, or None if it does not apply."""

from __future__ import annotations

import re
from datetime import datetime

from mpikit.diagnostics import Finding
from mpikit.kube.resources import MPIJob, Pod, conditions_of
from mpikit.lifecycle.snapshot import Snapshot
from mpikit.text.nested import at
from mpikit.text.units import another_name, duration
from mpikit.trainer import EXIT_CODES


def deleted(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    held = sum(pod.held_cards for pod in snapshot.pods)
    names = ", ".join(pod.name for pod in snapshot.pods if pod.held_cards)
    left = f"; {names} still use {held} cards" if held else ""
    clean = f"python generate.py delete {snapshot.name} -n {snapshot.namespace}"
    if job and not job.deleted:
        return None
    if job:
        advice = f"wait: the pods of MPIJob {job.name} end within their grace period" if snapshot.pods else "nothing"
        return Finding("Deleted", job.deleted, "Deleting", f"MPIJob {job.name} is being deleted{left}", advice)
    message = f"MPIJob {snapshot.name} not found in namespace {snapshot.namespace}{left}"
    advice = (
        f"{clean} removes what is left of it"
        if snapshot.pods
        else "submit it again if you want it: python generate.py submit"
    )
    return Finding("Deleted", None, "NotFound", message, advice)  # the time is unknown


def finished(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    if not job.finished:
        return None
    held = sum(pod.held_cards for pod in snapshot.pods)
    again = f"python generate.py submit --set name={another_name(job.name)}"
    if job.holds("Succeeded"):
        condition = job.conditions["Succeeded"]
        free = f"its pods still use {held} cards: python generate.py delete {job.name} -n {job.namespace} frees them"
        kept = job.annotations.get("mpikit/output")
        where = (
            f"the results are in output: {kept}"
            if kept
            else "output: was not set, so the results were deleted with the pods"
        )
        advice = free if held else f"{where}; {again} resumes from its last checkpoint"
        return Finding("Succeeded", job.finished, condition.reason, condition.message, advice)
    condition = job.conditions["Failed"]
    evicted_pod = next((pod for pod in snapshot.pods if pod.evicted), None)
    if evicted_pod:
        return _eviction(evicted_pod, job, job.finished)
    if condition.reason == "DeadlineExceeded":
        advice = f"raise runPolicy.activeDeadlineSeconds of MPIJob {job.name}, then {again}; it resumes from its last checkpoint"
        return Finding("Failed", job.finished, condition.reason, condition.message, advice)
    return _failure(snapshot, job, again)


def _failure(snapshot: Snapshot, job: MPIJob, again: str) -> Finding:
    condition, launcher = job.conditions["Failed"], snapshot.launcher
    reason = condition.reason.rstrip("/") or "Failed"
    message = condition.message.removesuffix(": ").rstrip(":")
    kept = job.annotations.get("mpikit/output")
    if launcher is None or launcher.exit_code is None:
        where = (
            f"kept in {kept}/logs/{job.name}.launcher.log" if kept else "not kept: set output: and restartPolicy Never"
        )
        advice = f"Pod {job.name}-launcher and its log were deleted after the last retry; its log is {where}; {again}"
        return Finding("Failed", job.finished, reason, message, advice)
    code = launcher.exit_code
    cause = _cause(snapshot.lines)
    meaning = EXIT_CODES.get(code, "")
    told = "; ".join(
        part for part in (message, f"exit code {code}" + (f": {meaning}" if meaning else ""), cause) if part
    )
    return Finding("Failed", job.finished, reason, told, f"{_remedy(code, job)}; then {again}")


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


def _remedy(code: int, job: MPIJob) -> str:
    usual = "read the last lines (python generate.py logs {name} -n {namespace}) and the events of its pods: a worker was lost"
    return _REMEDIES.get(code, usual).format(name=job.name, namespace=job.namespace)


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


def evicted(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    pod = next((pod for pod in snapshot.pods if pod.evicted), None)
    return _eviction(pod, job, None) if pod else None


def _eviction(pod: Pod, job: MPIJob, since: datetime | None) -> Finding:
    advice = (
        f"Pod {pod.name} was evicted: raise the resource named above (resources:, shmSize:) or use less scratch space, then "
        f"python generate.py delete {job.name} -n {job.namespace} and submit again; it resumes from its last checkpoint"
    )
    return Finding("Evicted", since or pod.ended or pod.created, "Evicted", f"{pod.name}: {pod.evicted}", advice)


def suspended(snapshot: Snapshot) -> Finding | None:
    job = snapshot.job
    assert job
    if not job.suspended and not job.holds("Suspended"):
        return None
    condition = job.conditions.get("Suspended")
    patch = """kubectl -n {} patch mpijob {} --type merge -p '{{"spec":{{"runPolicy":{{"suspend":false}}}}}}'"""
    advice = f"resume it: {patch.format(job.namespace, job.name)}"
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
    earlier = [pod.exit_code for pod in snapshot.pods if pod.role == "launcher" and pod.exit_code]
    code = code or (earlier[-1] if earlier else None)
    meaning = f" with exit code {code}" + (f" ({EXIT_CODES[code]})" if code in EXIT_CODES else "") if code else ""
    cause = _cause(snapshot.lines)
    message = f"the launcher failed {failures} times{meaning}".replace("1 times", "once") + (
        f"; {cause}" if cause else ""
    )
    advice = (
        f"python generate.py logs {job.name} -n {job.namespace} --previous shows the last failure; MPIJob {job.name} fails "
        f"after {job.backoff_limit} retries (runPolicy.backoffLimit)"
    )
    since = launcher.created if launcher else None
    return Finding(f"Retrying {failures}/{job.backoff_limit}", since, "BackOff", message, advice)


def ending(snapshot: Snapshot) -> Finding | None:
    """The launcher has ended, and the operator has not updated the job."""
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    target = conditions_of(snapshot.launcher_job).get("FailureTarget")
    if target and target.true:
        advice = f"wait: the pods of MPIJob {job.name} are being stopped"
        return Finding("Running", target.since, target.reason, f"{target.message}; the job is being stopped", advice)
    if launcher and launcher.phase in ("Succeeded", "Failed"):
        message = (
            f"{launcher.name} ended with exit code {launcher.exit_code}; the MPI Operator has not updated the job yet"
        )
        return Finding("Running", launcher.ended, "Ending", message, f"wait a moment for MPIJob {job.name}")
    return None


def running(snapshot: Snapshot) -> Finding | None:
    job, launcher = snapshot.job, snapshot.launcher
    assert job
    condition = job.conditions.get("Running")
    running = [pod for pod in snapshot.pods if pod.phase == "Running"]
    if not (condition and condition.true and (len(running) > job.workers or "pods" in snapshot.unreadable)):
        return None
    where = f" on {len({pod.node for pod in snapshot.workers})} nodes" if snapshot.workers else ""
    message = condition.message + (f" {launcher.name} and {job.workers} workers run{where}." if launcher else "")
    advice = f"python generate.py logs -f {job.name} -n {job.namespace} shows its log"
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
        f"python generate.py delete {name} -n {namespace} and submit again resumes from the last checkpoint"
    )
    return Finding("Stalled", spoke, "Silent", message, advice)
