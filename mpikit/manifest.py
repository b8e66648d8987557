"""Manifests read back: the fields of an MPIJob, the operator's own rules, and numbers that must agree.

The operator has no webhook: what breaks its rules passes `kubectl apply` and then shows nothing but one event.
Sources: kubeflow/mpi-operator v0.8.2, types.go and validation.go.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mpikit.errors import Fault
from mpikit.fields import DNS_LABEL, LABEL_MAX
from mpikit.profiles import CARD_RESOURCES
from mpikit.reader import Document, Key, dotted, read_all

# The fields of an MPIJob v2beta1. None: anything, or a Kubernetes type that is not looked into here.
_REPLICA: dict[str, Any] = {"replicas": None, "restartPolicy": None, "template": {"metadata": None, "spec": None}}
MPIJOB_FIELDS: dict[str, Any] = {
    "apiVersion": None,
    "kind": None,
    "metadata": None,
    "spec": {
        "slotsPerWorker": None,
        "runLauncherAsWorker": None,
        "sshAuthMountPath": None,
        "launcherCreationPolicy": None,
        "mpiImplementation": None,
        "mpiReplicaSpecs": {"Launcher": _REPLICA, "Worker": _REPLICA},
        "runPolicy": {
            "cleanPodPolicy": None,
            "ttlSecondsAfterFinished": None,
            "activeDeadlineSeconds": None,
            "backoffLimit": None,
            "suspend": None,
            "managedBy": None,
            "schedulingPolicy": {
                "minAvailable": None,
                "queue": None,
                "minResources": None,
                "priorityClass": None,
                "scheduleTimeoutSeconds": None,
            },
        },
    },
}
CHOICES: dict[str, tuple[str, ...]] = {
    "spec.runPolicy.cleanPodPolicy": ("None", "Running", "All"),
    "spec.runPolicy.managedBy": ("kubeflow.org/mpi-operator", "kueue.x-k8s.io/multikueue"),
    "spec.mpiImplementation": ("OpenMPI", "Intel", "MPICH"),
    "spec.launcherCreationPolicy": ("AtStartup", "WaitForWorkersReady"),
}
RESTART_POLICIES = ("Never", "OnFailure")

Found = Iterator[tuple[str, str, str, Literal["fault", "warning"]]]


def check_manifest(text: str, source: str) -> list[Fault]:
    """Every fault of the MPIJobs in a stream of manifests, and whether there is one at all."""
    documents = read_all(text, source)
    faults = [fault for document in documents for fault in document.faults]
    jobs = [document for document in documents if _kind(document) == "MPIJob"]
    if not jobs and not faults:
        return [Fault("", source, "holds no MPIJob", "give a manifest of kind MPIJob")]
    scripts = [text for document in documents if _kind(document) == "ConfigMap" for text in _scripts(document)]
    for document in jobs:
        for key, message, fix, severity in _job_faults(document.data, scripts):
            faults.append(Fault(key, _where(document, key, source), message, fix, severity))
    return faults


def _kind(document: Document) -> str | None:
    return document.data.get("kind") if isinstance(document.data, dict) else None


def _scripts(document: Document) -> list[str]:
    data = document.data.get("data")
    return [text for text in data.values() if isinstance(text, str)] if isinstance(data, dict) else []


def _where(document: Document, key: str, source: str) -> str:
    """file:line of a key, or of the nearest one above it."""
    places = {dotted(path): str(origin) for path, origin in document.origins.items()}
    while key not in places and key:
        key = re.sub(r"(\.[^.]*|\[\d+\]|^[^.]*)$", "", key)
    return places.get(key, source)


def _job_faults(job: Mapping[str, Any], scripts: list[str]) -> Found:
    yield from _unknown_fields(job, MPIJOB_FIELDS, ())
    if job.get("apiVersion") != "kubeflow.org/v2beta1":
        yield "apiVersion", f"{job.get('apiVersion')!r} is not served", "set kubeflow.org/v2beta1", "fault"
    yield from _spec_faults(job)
    yield from _name_faults(job)
    for role in ("Launcher", "Worker"):
        yield from _replica_faults(job, role)
    yield from _agreement(job, scripts)


def _unknown_fields(value: Any, known: Mapping[str, Any], prefix: Key) -> Found:
    if not isinstance(value, dict):
        if value is not None:
            yield dotted(prefix), "is no map", "write its fields below it", "fault"
        return
    for name, item in value.items():
        key = (*prefix, name)
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            fix = f"did you mean {dotted((*prefix, near[0]))}?" if near else f"known here: {', '.join(known)}"
            yield dotted(key), "no such field in an MPIJob", fix, "fault"
        elif known[name] is not None:
            yield from _unknown_fields(item, known[name], key)


def _get(value: Any, *path: str | int) -> Any:
    """A nested value, or None if it is not there."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _map(value: Any, name: str) -> dict[str, Any]:
    """A nested map; empty if there is none."""
    found = _get(value, name)
    return found if isinstance(found, dict) else {}


def _spec_faults(job: Mapping[str, Any]) -> Found:
    for key, choices in CHOICES.items():
        value = _get(job, *key.split("."))
        if value is not None and value not in choices:
            # The controller takes any other creation policy for WaitForWorkersReady, without a word.
            severity: Literal["fault", "warning"] = "warning" if key.endswith("CreationPolicy") else "fault"
            yield key, f"{value!r} is not known to the operator", f"one of {', '.join(choices)}", severity
    for name in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"):
        yield from _not_negative(job, "spec", "runPolicy", name)
    yield from _not_negative(job, "spec", "slotsPerWorker")
    if _get(job, "spec", "sshAuthMountPath") == "":
        yield "spec.sshAuthMountPath", "is empty", "leave it out, or give a path", "fault"


def _not_negative(job: Mapping[str, Any], *path: str) -> Found:
    value = _get(job, *path)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        yield ".".join(path), f"{value!r} is no whole number of 0 or more", "give one", "fault"


def _name_faults(job: Mapping[str, Any]) -> Found:
    name = _get(job, "metadata", "name")
    workers = _get(job, "spec", "mpiReplicaSpecs", "Worker", "replicas")
    last = workers - 1 if isinstance(workers, int) and workers > 0 else 0
    label = f"{name}-worker-{last}"
    if not isinstance(name, str):
        yield "metadata.name", f"{name!r} is no text", "give a name in quotes", "fault"
    elif not DNS_LABEL.fullmatch(label) or len(label) > LABEL_MAX:
        message = f"the worker's name {label!r} is no DNS-1035 label of at most {LABEL_MAX} characters"
        yield "metadata.name", message, "use a-z, then a-z, 0-9 and -, and fewer characters", "fault"


def _replica_faults(job: Mapping[str, Any], role: str) -> Found:
    key = f"spec.mpiReplicaSpecs.{role}"
    replica = _get(job, "spec", "mpiReplicaSpecs", role)
    if not isinstance(replica, dict):
        yield key, "is missing", f"give the {role}'s replicas and template", "fault"
        return
    replicas = replica.get("replicas", 1 if role == "Launcher" else 0)  # the operator's defaults
    if role == "Launcher" and replicas != 1:
        yield f"{key}.replicas", f"{replicas!r}: there is exactly one launcher", "set 1", "fault"
    if role == "Worker" and not (isinstance(replicas, int) and replicas >= 1):
        yield f"{key}.replicas", f"{replicas!r}: at least one worker is needed", "set 1 or more", "fault"
    if replica.get("restartPolicy", "Never") not in RESTART_POLICIES:
        message = f"{replica['restartPolicy']!r} is refused by the operator"
        yield f"{key}.restartPolicy", message, f"one of {', '.join(RESTART_POLICIES)}", "fault"
    containers = _get(replica, "template", "spec", "containers")
    if not isinstance(containers, list) or not containers:
        yield f"{key}.template.spec.containers", "is empty", "give one container", "fault"
        return
    yield from _resource_faults(f"{key}.template.spec.containers[0].resources", _get(containers, 0, "resources"))


def _resource_faults(key: str, resources: Any) -> Found:
    limits, requests = _map(resources, "limits"), _map(resources, "requests")
    for name, limit in limits.items():
        exact = name in CARD_RESOURCES or name.startswith("hugepages-")
        if exact and str(requests.get(name, limit)) != str(limit):
            message = f"request {requests[name]} and limit {limit} must be equal"
            yield f"{key}.requests.{name}", message, "leave the request out", "fault"
    for name in requests:
        if (name in CARD_RESOURCES or name.startswith("hugepages-")) and name not in limits:
            yield f"{key}.requests.{name}", "has no limit, and must have the same one", "give it as a limit", "fault"


def _agreement(job: Mapping[str, Any], scripts: list[str]) -> Found:
    """Slots against cards, and mpirun's -np against both."""
    slots = _get(job, "spec", "slotsPerWorker")
    worker = _get(job, "spec", "mpiReplicaSpecs", "Worker")
    limits = _map(_get(worker, "template", "spec", "containers", 0, "resources"), "limits")
    for name in CARD_RESOURCES:
        if name in limits and str(limits[name]) != str(slots):
            message = f"{slots} slots, but {limits[name]} of {name} in a worker"
            yield "spec.slotsPerWorker", message, "give both the same number", "warning"
    replicas = _get(worker, "replicas")
    for script in scripts:
        for ranks in re.findall(r"^\s*mpirun .*-np (\d+)", script, re.MULTILINE):
            if isinstance(slots, int) and isinstance(replicas, int) and int(ranks) != slots * replicas:
                message = f"mpirun -np {ranks} in the ConfigMap, but {replicas} workers x {slots} slots"
                yield "spec.mpiReplicaSpecs.Worker.replicas", message, "render again instead of editing", "fault"
