# SPDX-License-Identifier: Apache-2.0
"""Check that the Secrets, ConfigMaps and claims that the job names exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mpikit.config.job import Job
from mpikit.diagnostics import Found, fault, passed, warning
from mpikit.errors import Forbidden
from mpikit.kube.answers import Object
from mpikit.kube.api import CLAIM, CONFIG_MAP, SECRET, Kind, exists, find
from mpikit.kube.client import Cluster
from mpikit.kube.resources import JOB_NAME, JOB_ROLE
from mpikit.text.nested import as_map, at, numbered
from mpikit.validation.mpijob import ROLES

STORAGE_CLASS = Kind("StorageClass", "storageclasses", "/apis/storage.k8s.io/v1", namespaced=False)
CSI_DRIVER = Kind("CSIDriver", "csidrivers", "/apis/storage.k8s.io/v1", namespaced=False)
VOLUME = Kind("PersistentVolume", "persistentvolumes", "/api/v1", namespaced=False)
# Volumes that no controller attaches to a node, so that nothing enforces ReadWriteOnce (attach/detach controller, 1.35).
_SHARED = ("nfs", "cephfs", "glusterfs", "azureFile", "quobyte")


def template_of(manifests: Iterable[Object], role: str) -> Object:
    """Return the pod template of a role in the MPIJob, with the labels that the operator adds to its pods."""
    job = next(item for item in manifests if item["kind"] == "MPIJob")
    template = at(job, "spec", "mpiReplicaSpecs", role, "template")
    metadata = as_map(template.get("metadata"))
    own = {JOB_NAME: job["metadata"]["name"], JOB_ROLE: role.lower()}
    return {**template, "metadata": {**metadata, "labels": as_map(metadata.get("labels")) | own}}


def check_references(cluster: Cluster, job: Job, manifests: Sequence[Object], namespace: str) -> Found:
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
                yield from check_claim(cluster, namespace, name, Use.of(job, manifests, name)) if kind is CLAIM else ()
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


_CLAIM = "persistentVolumeClaim"
_VOLUME_SOURCES = {
    "secret": (SECRET, "secretName"),
    "configMap": (CONFIG_MAP, "name"),
    _CLAIM: (CLAIM, "claimName"),
}


def check_claim(cluster: Cluster, namespace: str, name: str, use: Use) -> Found:
    """Report an existing claim that pods cannot mount."""
    claim = find(cluster, CLAIM, namespace, name) or {}
    phase = at(claim, "status", "phase")
    if phase == "Bound" or (phase == "Pending" and _binds_later(cluster, at(claim, "spec", "storageClassName"))):
        modes = at(claim, "status", "accessModes") or at(claim, "spec", "accessModes") or ()
        once = "ReadWriteOnce" in modes and "ReadWriteMany" not in modes and use.nodes != "one"
        backing = backing_of(cluster, at(claim, "spec", "volumeName")) if once else Backing()
        yield from access_check(name, [str(mode) for mode in modes], use, backing)
        return
    message = f"PersistentVolumeClaim {name} is {phase}: pods that mount it do not start"
    fix = f"kubectl -n {namespace} describe pvc {name} shows what it waits for; correct its storage class or size"
    yield fault("references", message, fix)


@dataclass(frozen=True, slots=True)
class Use:
    """How the pods of a job use a claim."""

    num_pods: int
    """Pods that mount it."""
    nodes: Literal["one", "maybe several", "several"]
    """How many nodes these pods run on."""
    writes: bool
    """Whether a pod mounts it for writing."""

    @classmethod
    def of(cls, job: Job, manifests: Iterable[Object], name: str) -> Use:
        """Return what the pod templates of the job say about the claim."""
        specs = {role: template_of(manifests, role)["spec"] for role in ROLES}
        mounts = {role: [*_claim_mounts(spec, name)] for role, spec in specs.items()}
        workers = job.nodes if mounts["Worker"] else 0
        num_pods = workers + bool(mounts["Launcher"])
        apart = workers > 1 and job.placement in ("whole", "required")
        writes = any(mount.get("readOnly") is not True for role in ROLES for mount in mounts[role])
        return cls(num_pods, "several" if apart else "maybe several" if num_pods > 1 else "one", writes)


def _claim_mounts(spec: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the mounts of a claim in all containers of a pod."""
    claims = [volume for _, volume in numbered(spec.get("volumes")) if at(volume, _CLAIM, "claimName") == name]
    mounted = {volume["name"]: at(volume, _CLAIM, "readOnly") is True for volume in claims}
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        for _, mount in numbered(container.get("volumeMounts")):
            if mount.get("name") in mounted:
                yield {**mount, "readOnly": mounted[mount["name"]] or mount.get("readOnly")}


@dataclass(frozen=True, slots=True)
class Backing:
    """What is behind a claim, and whether ReadWriteOnce is enforced for it."""

    kind: Literal["attached", "shared", "of each node", "hidden"] = "attached"
    """shared: several nodes can mount it; hidden: it cannot be read."""
    name: str = ""
    """Its source, as a PersistentVolume names it: nfs, hostPath, a CSI driver."""


def backing_of(cluster: Cluster, volume: str | None) -> Backing:
    """Read what is behind a bound claim; a CSI driver says itself whether it attaches its volumes to nodes."""
    if not volume:
        return Backing()
    try:
        found = find(cluster, VOLUME, None, volume)
    except Forbidden:
        return Backing("hidden")
    driver = at(found, "spec", "csi", "driver")
    if not driver:
        return in_tree(found or {})
    try:
        attached = at(find(cluster, CSI_DRIVER, None, str(driver)), "spec", "attachRequired")
    except Forbidden:
        return Backing("hidden")
    return Backing("shared" if attached is False else "attached", str(driver))


def in_tree(volume: Object) -> Backing:
    """Return what a PersistentVolume without a CSI driver is."""
    spec = as_map(volume.get("spec"))
    if "hostPath" in spec:
        return Backing("of each node", "hostPath")
    shared = next((source for source in _SHARED if source in spec), "")
    return Backing("shared", shared) if shared else Backing()


def access_check(name: str, modes: Sequence[str], use: Use, backing: Backing | None = None) -> Found:
    """Report a claim whose access modes do not allow what the pods do with it."""
    backing = backing or Backing()
    if not modes or "ReadWriteMany" in modes or use.num_pods == 0 or ("ReadOnlyMany" in modes and not use.writes):
        return
    mode = next((one for one in modes if one != "ReadOnlyMany"), modes[0])
    claim = f"PersistentVolumeClaim {name}"
    wanted = "ReadWriteMany" if use.writes else "ReadOnlyMany or ReadWriteMany"
    fix = f"use a claim with {wanted} (kubectl get pvc shows ACCESS MODES)"
    pods = f"{use.num_pods} pods of the job mount it"
    if mode == "ReadOnlyMany":
        yield fault("references", f"{claim} is ReadOnlyMany, but the job writes to it", fix)
    elif "ReadWriteOnce" not in modes and use.num_pods > 1:
        yield fault("references", f"{claim} is {mode}: one pod can mount it, and {pods}", fix)
    elif use.nodes != "one" and backing.kind in ("shared", "of each node"):
        yield from _not_enforced(claim, use, backing, fix)
    elif use.nodes == "several":
        unseen = ", as far as you may see: you are not allowed to read its volume" * (backing.kind == "hidden")
        yield fault("references", f"{claim} is {mode}: one node can mount it, and {pods} on several nodes{unseen}", fix)
    elif use.nodes == "maybe several":
        message = f"{claim} is {mode}: one node can mount it, and {pods}, so all must run on one node"
        pin = "or set kubernetes.io/hostname: NODE in worker.nodeSelector and launcher.nodeSelector"
        yield warning("references", message, f"{fix}, {pin}")


def _not_enforced(claim: str, use: Use, backing: Backing, fix: str) -> Found:
    """Report a ReadWriteOnce claim that several nodes can mount all the same."""
    if backing.kind == "of each node":
        message = f"{claim} is a hostPath volume: each node mounts its own folder, and {use.num_pods} pods use it"
        shared = "nothing to do if that folder is on a file system that all nodes share"
        yield warning("references", message, f"{shared}; else {fix}")
    elif use.nodes == "several":
        message = (
            f"{claim} is ReadWriteOnce, which is not enforced for {backing.name}: "
            f"{use.num_pods} pods on several nodes can mount it"
        )
        yield warning("references", message, f"nothing to do if the storage is meant to be shared; else {fix}")


def _binds_later(cluster: Cluster, storage_class: str | None) -> bool:
    """Whether a claim of this class waits for its first pod; True without the right to read it."""
    try:
        found = find(cluster, STORAGE_CLASS, None, storage_class) if storage_class else None
    except Forbidden:
        return True
    return bool(at(found, "volumeBindingMode") == "WaitForFirstConsumer")
