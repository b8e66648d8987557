# SPDX-License-Identifier: Apache-2.0
"""What stands in the way of a job, found before it is submitted: one line for each thing that was looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpikit.answers import Object
from mpikit.api import CLAIM, CONFIG_MAP, NAMESPACE, POD, SECRET, SERVICE_ACCOUNT, Kind, apply, create, exists, find
from mpikit.cluster import Call, Cluster
from mpikit.errors import ClusterError, Conflict, Forbidden, NotFound, Unreachable
from mpikit.job import Job
from mpikit.objects import JOB_NAME, JOB_ROLE, REPLICA_INDEX, at
from mpikit.placement import check_nodes, check_quotas
from mpikit.premises import Check, check_crd, check_operator, check_rights, check_server, unseen
from mpikit.probe import check_paths
from mpikit.refusals import Refusal, understand

__all__ = ["Check", "examine"]

ROLES = ("Worker", "Launcher")
STORAGE_CLASS = Kind("StorageClass", "storageclasses", "/apis/storage.k8s.io/v1", namespaced=False)
_NO_RIGHT = re.compile(r'is forbidden: User "')  # RBAC's words, not those of an admission plugin

# Which check a refusal of a pod belongs to; the others are of "pods".
_CHECKS = {
    "ServiceAccountNotFound": "service account",
    "PodSecurityViolated": "pod security",
    "LimitRangeExceeded": "limits",
    "QuotaNeedsRequests": "quota",
    "PriorityClassNotFound": "references",
}
_INVALID = (
    "correct what the sentence names: worker: or launcher: of the values, their podSpec:, volumes: and resources:"
)


def examine(
    cluster: Cluster, job: Job, manifests: Sequence[Object], namespace: str, *, probe: bool = False
) -> Iterator[Check]:
    """Everything that can be known of a job before it is submitted, in a fixed order, as it is found.

    Nothing on the cluster is changed, but for a small pod with `probe`, which is gone afterwards. Raises Unreachable
    if there is no API server; what may not be read becomes a warning.
    """
    server = list(check_server(cluster))
    yield from server
    if any(check.result == "fault" for check in server):
        return
    yield from _guarded(cluster, "operator", check_operator(cluster, namespace))
    crd = list(_guarded(cluster, "crd", check_crd(cluster, manifests)))
    yield from crd
    yield from _guarded(cluster, "rights", check_rights(cluster, namespace))
    space = list(_guarded(cluster, "namespace", check_namespace(cluster, namespace)))
    yield from space
    trial = Trial({role: template_of(manifests, role) for role in ROLES})
    if not any(check.result == "fault" for check in space):
        unfit = any(check.result == "fault" for check in crd)
        tried = [item for item in manifests if not (unfit and item["kind"] == "MPIJob")]
        yield from _guarded(cluster, "service account", check_accounts(cluster, trial, namespace, job))
        yield from _guarded(cluster, "manifest", check_manifests(cluster, job, tried, namespace))
        yield from _guarded(cluster, "pods", check_pods(cluster, job, trial, namespace))
        quotas = check_quotas(cluster, job, manifests, namespace, trial.templates, trial.exceeded)
        yield from _guarded(cluster, "quota", quotas)
    yield from _guarded(cluster, "nodes", check_nodes(cluster, job, trial.templates, namespace))
    if any(check.result == "fault" for check in space):
        return
    yield from _guarded(cluster, "references", check_references(cluster, manifests, namespace))
    yield from check_paths(cluster, job, trial.templates["Worker"], namespace, probe=probe, allowed=trial.allowed)


def _guarded(cluster: Cluster, name: str, checks: Iterable[Check]) -> Iterator[Check]:
    """The checks, and a warning in place of those that the cluster does not let happen; Unreachable if it is gone."""
    try:
        yield from checks
    except Unreachable as error:
        cluster.json(Call("GET", "/version", patient=False))
        yield unseen(name, name, error)
    except ClusterError as error:
        yield unseen(name, name, error)


def template_of(manifests: Iterable[Object], role: str) -> Object:
    """The pod template of a role in the MPIJob."""
    specs = [at(item, "spec", "mpiReplicaSpecs", role, "template") for item in manifests if item["kind"] == "MPIJob"]
    return dict(specs[0])


@dataclass(slots=True)
class Trial:
    """What becomes known of the job's pods by trying them."""

    templates: dict[str, Object]
    """Templates by role, with what the cluster would add to them once they were tried."""
    missing_accounts: set[str] = field(default_factory=set)
    exceeded: list[str] = field(default_factory=list)
    """Refusals that name a quota which is full."""
    allowed: bool = True
    """Whether pods of this job can be made in the namespace."""


# -- The namespace and what the job becomes in it ---------------------------------------------------------------------


def check_namespace(cluster: Cluster, namespace: str) -> Iterator[Check]:
    """Whether the namespace is there; nothing if that may not be read, since the dry runs tell it too."""
    try:
        found = find(cluster, NAMESPACE, None, namespace)
    except Forbidden:
        return
    if found is None:
        yield _no_namespace(namespace)
    elif at(found, "status", "phase") == "Terminating":
        message = f"namespace {namespace} is being deleted"
        yield Check(
            "namespace", "fault", message, f"wait for kubectl get namespace {namespace} to end, or set namespace:"
        )
    else:
        yield Check("namespace", "ok", f"namespace {namespace} is there")


def _no_namespace(namespace: str) -> Check:
    fix = f"set namespace: (or -n) to one of yours, or have it made: kubectl create namespace {namespace}"
    return Check("namespace", "fault", f"namespace {namespace} is not there", fix)


def check_accounts(cluster: Cluster, trial: Trial, namespace: str, job: Job) -> Iterator[Check]:
    """Whether the service accounts are there; nothing if that may not be read, since the trial of pods tells it too."""
    names = dict.fromkeys(at(trial.templates[role], "spec", "serviceAccountName") or "default" for role in ROLES)
    for name in names:
        try:
            found = exists(cluster, SERVICE_ACCOUNT, namespace, name)
        except Forbidden:
            continue
        if found:
            yield Check("service account", "ok", f"ServiceAccount {name} is there")
            continue
        trial.missing_accounts.add(name)
        fix = understand(f"error looking up service account {namespace}/{name}:", namespace, job.job_name).advice
        yield Check("service account", "fault", f"ServiceAccount {name} is not in namespace {namespace}", fix)


def check_manifests(cluster: Cluster, job: Job, manifests: Iterable[Object], namespace: str) -> Iterator[Check]:
    """Whether the server would take each object as it is."""
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
        yield Check("manifest", "ok", f"the server would take {' and '.join(taken)}")


def _refused_object(error: ClusterError, title: str, job: Job, namespace: str) -> Iterator[Check]:
    message = str(error)
    match error:
        case Conflict():
            fix = f"python generate.py delete {job.job_name} -n {namespace}, or another name: --set name={job.another_name}"
            yield Check("manifest", "warning", f"{title} is there already", fix)
        case NotFound(kind="namespaces"):
            yield _no_namespace(namespace)
        case Forbidden() if _NO_RIGHT.search(message) or "exceeded quota" in message:
            return  # the rights and the quota say so
        case _:
            fix = understand(message, namespace, job.job_name).advice if isinstance(error, Forbidden) else ""
            yield Check("manifest", "fault", f"{title}: {message}", fix or f"correct what it names of {title}")


def check_pods(cluster: Cluster, job: Job, trial: Trial, namespace: str) -> Iterator[Check]:
    """What admission says of a worker and a launcher, which nobody asks before the MPIJob is there: each refusal once."""
    told: dict[tuple[str, str], Check] = {}
    for role in ROLES:
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
        yield Check("pod security", "ok", "worker and launcher pass Pod Security, limits and webhooks of the namespace")
    trial.allowed = trial.allowed and not told and not trial.missing_accounts


def _try_pod(cluster: Cluster, job: Job, trial: Trial, namespace: str, role: str) -> str:
    """The server's refusal of a pod, empty if there is none; a missing account, which is told, is left out."""
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
        if _NO_RIGHT.search(str(error)):
            trial.allowed = False
            return ""
        return str(error)
    except ClusterError as error:
        return str(error)
    trial.templates[role] = {**template, "spec": admitted["spec"]}
    return ""


def _pod(job: Job, template: Object, spec: Mapping[str, Any], role: str) -> Object:
    """A pod as the operator would make it."""
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


def _refused_pod(name: str, role: str, refusal: str, meaning: Refusal) -> Check:
    words = refusal.removeprefix("the cluster refuses: ").partition(" is forbidden: ")[2] or refusal
    fix = _INVALID if meaning.reason == "InvalidPod" else meaning.advice
    return Check(name, "fault", f"{role.lower()} pods are refused: {words.removeprefix('the cluster refuses: ')}", fix)


# -- What the pods refer to -------------------------------------------------------------------------------------------


def check_references(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> Iterator[Check]:
    """Whether the Secrets, ConfigMaps and claims that the pods name are there; no content is read."""
    brought = {item["metadata"]["name"] for item in manifests if item["kind"] == "ConfigMap"}
    specs = [template_of(manifests, role)["spec"] for role in ROLES]
    wanted = dict.fromkeys(one for spec in specs for one in [*_pull_secrets(spec), *_named(spec)])
    found, hidden = [], []
    for check, kind, name in wanted:
        if kind is CONFIG_MAP and name in brought:
            continue
        try:
            if exists(cluster, kind, namespace, name):
                found.append(f"{kind.name} {name}")
                yield from check_claim(cluster, namespace, name) if kind is CLAIM else ()
                continue
        except Forbidden:
            hidden.append(f"{kind.name} {name}")
            continue
        yield Check(
            check, "fault", f"{kind.name} {name} is not in namespace {namespace}", _missing(kind, name, namespace)
        )
    if hidden:
        fix = f"make sure of it: kubectl -n {namespace} get {hidden[0].lower().replace(' ', '/')}, or ask the site's staff"
        yield Check("references", "warning", f"whether {', '.join(hidden)} exists is not for you to see", fix)
    if found:
        yield Check("references", "ok", f"there: {', '.join(found)}")


def _missing(kind: Kind, name: str, namespace: str) -> str:
    make = {
        SECRET.name: f"make Secret {name} (kubectl -n {namespace} create secret --help)",
        CONFIG_MAP.name: f"make ConfigMap {name} (kubectl -n {namespace} create configmap {name} --help)",
        CLAIM.name: f"make PersistentVolumeClaim {name} (kubectl -n {namespace} get pvc shows those that are there)",
    }
    return f"{make[kind.name]}, or correct its name in the values"


def _pull_secrets(spec: Mapping[str, Any]) -> Iterator[tuple[str, Kind, str]]:
    for item in spec.get("imagePullSecrets") or ():
        yield "image pull secrets", SECRET, str(item["name"])


def _named(spec: Mapping[str, Any]) -> Iterator[tuple[str, Kind, str]]:
    """(check, kind, name) of every object without which the pod does not start."""
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        sources = [item.get("valueFrom") or {} for item in container.get("env") or ()]
        for source in [*sources, *(container.get("envFrom") or ())]:
            for key, kind in _ENV_SOURCES.items():
                if (part := source.get(key)) and not part.get("optional"):
                    yield "references", kind, str(part["name"])
    for volume in spec.get("volumes") or ():
        for source in [volume, *(at(volume, "projected", "sources") or ())]:
            for key, (kind, name) in _VOLUME_SOURCES.items():
                if (part := source.get(key)) and not part.get("optional"):
                    yield "references", kind, str(part.get(name) or part.get("name"))


_ENV_SOURCES = {"secretKeyRef": SECRET, "secretRef": SECRET, "configMapKeyRef": CONFIG_MAP, "configMapRef": CONFIG_MAP}
_VOLUME_SOURCES = {
    "secret": (SECRET, "secretName"),
    "configMap": (CONFIG_MAP, "name"),
    "persistentVolumeClaim": (CLAIM, "claimName"),
}


def check_claim(cluster: Cluster, namespace: str, name: str) -> Iterator[Check]:
    """A fault if pods cannot mount a claim that is there."""
    claim = find(cluster, CLAIM, namespace, name) or {}
    phase = at(claim, "status", "phase")
    if phase == "Bound" or (phase == "Pending" and _binds_later(cluster, at(claim, "spec", "storageClassName"))):
        return
    message = f"PersistentVolumeClaim {name} is {phase}: pods that mount it do not start"
    fix = f"kubectl -n {namespace} describe pvc {name} tells what it waits for; correct its storage class or size"
    yield Check("references", "fault", message, fix)


def _binds_later(cluster: Cluster, storage_class: str | None) -> bool:
    """Whether a claim of this class waits for its first pod; true if that may not be read."""
    try:
        found = find(cluster, STORAGE_CLASS, None, storage_class) if storage_class else None
    except Forbidden:
        return True
    return bool(at(found, "volumeBindingMode") == "WaitForFirstConsumer")
