# SPDX-License-Identifier: Apache-2.0
"""What nobody refuses of an MPIJob and nobody means, and what it presumes to be on the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.injected import ROLES
from mpikit.kubeschema import Found
from mpikit.objects import at, cards_of
from mpikit.podnames import Object, as_map, numbered
from mpikit.profiles import CARD_RESOURCES

_FOLDERS = ("persistentVolumeClaim", "hostPath", "nfs")  # volumes with somebody's data
_REFERENCES = {"serviceAccountName": "ServiceAccount", "priorityClassName": "PriorityClass"}
_VOLUME_OBJECTS = {
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
}
_VARIABLE_OBJECTS = {
    "configMapRef": "ConfigMap",
    "secretRef": "Secret",
    "configMapKeyRef": "ConfigMap",
    "secretKeyRef": "Secret",
}


def sense_faults(job: Mapping[str, Any], scripts: list[str]) -> Found:
    """Cards and mounts that nothing uses, folders that may be missing, numbers that disagree."""
    if not _ranks_in_launcher(job):
        yield from _launcher_cards(job)
        yield from _launcher_mounts(job)
    for role in ROLES:
        yield from _volume_sense(_pod(job, role), f"spec.mpiReplicaSpecs.{role}.template.spec")
    yield from _slots_and_cards(job)
    yield from _ranks_and_slots(job, scripts)


def _pod(job: Mapping[str, Any], role: str) -> Object:
    return as_map(at(job, "spec", "mpiReplicaSpecs", role, "template", "spec"))


def _ranks_in_launcher(job: Mapping[str, Any]) -> bool:
    return at(job, "spec", "runLauncherAsWorker") is True


def _launcher_cards(job: Mapping[str, Any]) -> Found:
    if cards_of(_pod(job, "Launcher")):
        key = "spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].resources.limits"
        yield key, "the launcher holds cards that no rank uses", "take them out", "warning"


def _launcher_mounts(job: Mapping[str, Any]) -> Found:
    """Data that ranks only read, in a launcher that runs no rank and does not name the path."""
    launcher, worker = _pod(job, "Launcher"), _pod(job, "Worker")
    folders = {
        one.get("name") for _, one in numbered(launcher.get("volumes")) if any(one.get(kind) for kind in _FOLDERS)
    }
    mounts = numbered(at(worker, "containers", 0, "volumeMounts"))
    read = {mount.get("mountPath") for _, mount in mounts if mount.get("readOnly") is True}
    container = as_map(at(launcher, "containers", 0))
    named = str([container.get(field) for field in ("command", "args", "env")])
    for number, mount in numbered(container.get("volumeMounts")):
        path = mount.get("mountPath")
        if mount.get("name") in folders and path in read and str(path) not in named:
            key = f"spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].volumeMounts[{number}]"
            yield key, f"the launcher mounts {path}, which only ranks read", "take it out", "warning"


def _volume_sense(pod: Object, key: str) -> Found:
    """Host folders whose absence nobody would notice, and volumes that no container mounts."""
    containers = [one for kind in ("initContainers", "containers") for _, one in numbered(pod.get(kind))]
    mounted = {mount.get("name") for one in containers for _, mount in numbered(one.get("volumeMounts"))}
    mounted |= {device.get("name") for one in containers for _, device in numbered(one.get("volumeDevices"))}
    for number, volume in numbered(pod.get("volumes")):
        here = f"{key}.volumes[{number}]"
        if volume.get("name") not in mounted:
            yield here, f"no container mounts the volume {volume.get('name')!r}", "mount it, or take it out", "warning"
        if isinstance(volume.get("hostPath"), dict) and not volume["hostPath"].get("type"):
            message = f"has no type: a node without {volume['hostPath'].get('path')} would give an empty folder"
            yield f"{here}.hostPath", message, "type: Directory, or DirectoryOrCreate for what is written", "warning"


def _slots_and_cards(job: Mapping[str, Any]) -> Found:
    slots, worker = at(job, "spec", "slotsPerWorker"), _pod(job, "Worker")
    limits = as_map(at(worker, "containers", 0, "resources", "limits"))
    for name in CARD_RESOURCES:
        if name in limits and str(limits[name]) != str(slots):
            message = f"{slots} slots, but {limits[name]} of {name} in a worker"
            yield "spec.slotsPerWorker", message, "give both the same number", "warning"


def _ranks_and_slots(job: Mapping[str, Any], scripts: list[str]) -> Found:
    """mpirun's -np against the places that the operator's hostfile has."""
    slots, replicas = at(job, "spec", "slotsPerWorker"), at(job, "spec", "mpiReplicaSpecs", "Worker", "replicas")
    if not isinstance(slots, int) or not isinstance(replicas, int):
        return
    nodes = replicas + _ranks_in_launcher(job)
    for script in scripts:
        for ranks in re.findall(r"^\s*mpirun .*-np (\d+)", script, re.MULTILINE):
            if int(ranks) != slots * nodes:
                message = f"mpirun -np {ranks} in the ConfigMap, but {nodes} workers x {slots} slots"
                yield "spec.mpiReplicaSpecs.Worker.replicas", message, "render again instead of editing", "fault"


def presumed(job: Mapping[str, Any]) -> list[str]:
    """The objects that the pods name, such as `ServiceAccount ada`: the cluster must have them."""
    return list(dict.fromkeys(found for role in ROLES for found in _presumed(_pod(job, role))))


def _presumed(pod: Object) -> Iterator[str]:
    for field, kind in _REFERENCES.items():
        if pod.get(field):
            yield f"{kind} {pod[field]}"
    for _, secret in numbered(pod.get("imagePullSecrets")):
        yield f"Secret {secret.get('name')}"
    for _, volume in numbered(pod.get("volumes")):
        for source, (kind, name) in _VOLUME_OBJECTS.items():
            if at(volume, source, name) and at(volume, source, "optional") is not True:
                yield f"{kind} {volume[source][name]}"
    for _, container in numbered(pod.get("containers")):
        variables = [as_map(one.get("valueFrom")) for _, one in numbered(container.get("env"))]
        for reference in (*variables, *(one for _, one in numbered(container.get("envFrom")))):
            for source, kind in _VARIABLE_OBJECTS.items():
                if at(reference, source, "name") and at(reference, source, "optional") is not True:
                    yield f"{kind} {reference[source]['name']}"
