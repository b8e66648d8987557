# SPDX-License-Identifier: Apache-2.0
"""Check that the Secrets, ConfigMaps and claims that the job names exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mpikit.diagnostics import Found, fault, passed, warning
from mpikit.errors import Forbidden
from mpikit.kube.answers import Object
from mpikit.kube.api import CLAIM, CONFIG_MAP, SECRET, Kind, exists, find
from mpikit.kube.client import Cluster
from mpikit.kube.resources import JOB_NAME, JOB_ROLE
from mpikit.text.nested import as_map, at
from mpikit.validation.mpijob import ROLES

STORAGE_CLASS = Kind("StorageClass", "storageclasses", "/apis/storage.k8s.io/v1", namespaced=False)


def template_of(manifests: Iterable[Object], role: str) -> Object:
    """The pod template of a role in the MPIJob, with the labels by which the operator marks its pods."""
    job = next(item for item in manifests if item["kind"] == "MPIJob")
    template = at(job, "spec", "mpiReplicaSpecs", role, "template")
    metadata = as_map(template.get("metadata"))
    own = {JOB_NAME: job["metadata"]["name"], JOB_ROLE: role.lower()}
    return {**template, "metadata": {**metadata, "labels": as_map(metadata.get("labels")) | own}}


def check_references(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> Found:
    """Check that the Secrets, ConfigMaps and claims that the pods name exist; their content is not read."""
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
        yield fault(
            check, f"{kind.name} {name} does not exist in namespace {namespace}", _missing(kind, name, namespace)
        )
    if hidden:
        fix = f"check it with kubectl -n {namespace} get {hidden[0].lower().replace(' ', '/')}, or ask the cluster's administrator"
        yield warning(
            "references", f"whether {', '.join(hidden)} exists cannot be checked: you are not allowed to read it", fix
        )
    if found:
        yield passed("references", f"found {', '.join(found)}")


def _missing(kind: Kind, name: str, namespace: str) -> str:
    make = {
        SECRET.name: f"create Secret {name} (kubectl -n {namespace} create secret --help)",
        CONFIG_MAP.name: f"create ConfigMap {name} (kubectl -n {namespace} create configmap {name} --help)",
        CLAIM.name: f"create PersistentVolumeClaim {name} (kubectl -n {namespace} get pvc lists the existing ones)",
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


def check_claim(cluster: Cluster, namespace: str, name: str) -> Found:
    """Report an existing claim that pods cannot mount."""
    claim = find(cluster, CLAIM, namespace, name) or {}
    phase = at(claim, "status", "phase")
    if phase == "Bound" or (phase == "Pending" and _binds_later(cluster, at(claim, "spec", "storageClassName"))):
        return
    message = f"PersistentVolumeClaim {name} is {phase}: pods that mount it do not start"
    fix = f"kubectl -n {namespace} describe pvc {name} shows what it waits for; correct its storage class or size"
    yield fault("references", message, fix)


def _binds_later(cluster: Cluster, storage_class: str | None) -> bool:
    """Whether a claim of this class waits for its first pod; True without the right to read it."""
    try:
        found = find(cluster, STORAGE_CLASS, None, storage_class) if storage_class else None
    except Forbidden:
        return True
    return bool(at(found, "volumeBindingMode") == "WaitForFirstConsumer")
