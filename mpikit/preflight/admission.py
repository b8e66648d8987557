# SPDX-License-Identifier: Apache-2.0
"""Check that the namespace admits the job's objects and pods."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpikit.config.job import Job
from mpikit.diagnostics import Diagnostic, Found, fault, passed, warning
from mpikit.errors import ClusterError, Conflict, Forbidden, NotFound, Unreachable
from mpikit.kube.answers import Object
from mpikit.kube.api import NAMESPACE, POD, SERVICE_ACCOUNT, apply, create, exists, find
from mpikit.kube.client import Cluster
from mpikit.kube.rejections import Refusal, understand
from mpikit.kube.resources import JOB_NAME, JOB_ROLE, REPLICA_INDEX
from mpikit.text.nested import at
from mpikit.validation.mpijob import ROLES

_NO_RIGHT = re.compile(r'is forbidden: User "')  # a message of RBAC, not of an admission plugin


# The check to which a rejection of a pod belongs; the others belong to "pods".
_CHECKS = {
    "ServiceAccountNotFound": "service account",
    "PodSecurityViolated": "pod security",
    "LimitRangeExceeded": "limits",
    "QuotaNeedsRequests": "quota",
    "PriorityClassNotFound": "references",
}


_INVALID = "correct the fields named above in worker: or launcher: of the values (podSpec:, volumes:, resources:)"


@dataclass(slots=True)
class Trial:
    """What a trial of the job's pods shows."""

    templates: dict[str, Object]
    """Templates by role, with what the cluster adds to them once they were tried."""
    missing_accounts: set[str] = field(default_factory=set)
    exceeded: list[str] = field(default_factory=list)
    """Rejections that name a full quota."""
    allowed: bool = True
    """Whether pods of this job can be created in the namespace."""


def check_namespace(cluster: Cluster, namespace: str) -> Found:
    """Check that the namespace exists; skipped without the right to read it, since the dry runs show it too."""
    try:
        found = find(cluster, NAMESPACE, None, namespace)
    except Forbidden:
        return
    if found is None:
        yield _no_namespace(namespace)
    elif at(found, "status", "phase") == "Terminating":
        message = f"namespace {namespace} is being deleted"
        yield fault(
            "namespace", message, f"wait until kubectl get namespace {namespace} finds nothing, or set namespace:"
        )
    else:
        yield passed("namespace", f"namespace {namespace} exists")


def _no_namespace(namespace: str) -> Diagnostic:
    fix = f"set namespace: (or -n) to one of yours, or create it: kubectl create namespace {namespace}"
    return fault("namespace", f"namespace {namespace} does not exist", fix)


def check_accounts(cluster: Cluster, trial: Trial, namespace: str, job: Job) -> Found:
    """Check that the service accounts exist; skipped without the right, since the trial of pods shows it too."""
    names = dict.fromkeys(at(trial.templates[role], "spec", "serviceAccountName") or "default" for role in ROLES)
    for name in names:
        try:
            found = exists(cluster, SERVICE_ACCOUNT, namespace, name)
        except Forbidden:
            continue
        if found:
            yield passed("service account", f"ServiceAccount {name} exists")
            continue
        trial.missing_accounts.add(name)
        yield fault(
            "service account",
            f"ServiceAccount {name} does not exist in namespace {namespace}",
            _account_fix(job, name, namespace),
        )


def _account_fix(job: Job, name: str, namespace: str) -> str:
    if job.replaces_workers and name == f"{job.job_name}-launcher":
        return (
            "run the same command as rbac, and apply what it prints: python generate.py rbac ... | kubectl apply -f -"
        )
    return understand(f"error looking up service account {namespace}/{name}:", namespace, job.job_name).advice


def check_manifests(cluster: Cluster, job: Job, manifests: Iterable[Object], namespace: str) -> Found:
    """Check that the server accepts each object."""
    taken = []
    for item in manifests:
        title = f"{item['kind']} {item['metadata']['name']}"
        try:
            apply(cluster, item, namespace, dry_run=True, create=item["kind"] == "MPIJob")
        except Unreachable:
            raise
        except ClusterError as error:
            yield from _refused_object(error, title, job, namespace)
        else:
            taken.append(title)
    if taken:
        yield passed("manifest", f"the server accepts {' and '.join(taken)}")


def _refused_object(error: ClusterError, title: str, job: Job, namespace: str) -> Found:
    message = error.message
    match error:
        case Conflict():
            fix = f"python generate.py delete {job.job_name} -n {namespace}, or another name: --set name={job.another_name}"
            yield warning("manifest", f"{title} already exists", fix)
        case NotFound(kind="namespaces"):
            yield _no_namespace(namespace)
        case Forbidden() if _NO_RIGHT.search(message) or "exceeded quota" in message:
            return  # reported by the rights and the quota
        case _:
            fix = understand(message, namespace, job.job_name).advice if isinstance(error, Forbidden) else ""
            yield fault(
                "manifest", f"{title}: {message}", fix or error.hint or f"correct the fields named above of {title}"
            )


def check_pods(cluster: Cluster, job: Job, trial: Trial, namespace: str) -> Found:
    """Try a worker and a launcher against admission before the MPIJob exists; yield each rejection once."""
    told: dict[tuple[str, str], Diagnostic] = {}
    for role in reversed(ROLES):  # what both violate is reported for the worker
        refusal = _try_pod(cluster, job, trial, namespace, role)
        if not refusal:
            continue
        meaning = understand(refusal, namespace, job.job_name)
        name = _CHECKS.get(meaning.reason, "pods")
        if meaning.reason == "QuotaExceeded":
            trial.exceeded.append(refusal)
        elif (name, meaning.advice) not in told:
            told[name, meaning.advice] = _refused_pod(name, role, refusal, meaning)
    yield from told.values()
    if trial.allowed and not told:
        yield passed("pod security", "worker and launcher pass the Pod Security, limits and webhooks of the namespace")
    trial.allowed = trial.allowed and not told and not trial.missing_accounts


def _try_pod(cluster: Cluster, job: Job, trial: Trial, namespace: str, role: str) -> str:
    """Return the server's rejection of a pod, or an empty text. Missing accounts are reported elsewhere."""
    template = trial.templates[role]
    spec = dict(template["spec"])
    if spec.get("serviceAccountName", "default") in trial.missing_accounts:
        spec.pop("serviceAccountName", None)
    if "default" in trial.missing_accounts and "serviceAccountName" not in spec:
        return ""
    try:
        admitted = create(cluster, POD, namespace, _pod(job, template, spec, role), dry_run=True)
    except Unreachable:
        raise
    except Forbidden as error:
        if _NO_RIGHT.search(error.message):
            trial.allowed = False
            return ""
        return error.message
    except ClusterError as error:
        return error.message
    trial.templates[role] = {**template, "spec": admitted["spec"]}
    return ""


def _pod(job: Job, template: Object, spec: Mapping[str, Any], role: str) -> Object:
    """Return a pod as the operator creates it."""
    own = {
        "training.kubeflow.org/operator-name": "mpi-operator",
        JOB_NAME: job.job_name,
        JOB_ROLE: role.lower(),
        REPLICA_INDEX: "0",
    }
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), **own}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "generateName": f"{job.job_name}-{role.lower()}-", "labels": labels},
        "spec": {**spec, "restartPolicy": "Never"},
    }


def _refused_pod(name: str, role: str, refusal: str, meaning: Refusal) -> Diagnostic:
    words = refusal.partition(" is forbidden: ")[2] or refusal
    fix = _INVALID if meaning.reason == "InvalidPod" else meaning.advice
    return fault(name, f"{role.lower()} pods are rejected: {words}", fix)
