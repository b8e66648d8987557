# SPDX-License-Identifier: Apache-2.0
"""Lint an MPIJob: valid but probably unintended settings, and the objects it expects on the cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpikit.devices import CARD_RESOURCES, cards_of
from mpikit.diagnostics import Found, fault, warning
from mpikit.text.nested import Object, as_map, at, numbered
from mpikit.validation.mpijob import ROLES

# Device files by their names; other names below /dev can be folders, so there is no advice about them.
_CHAR_DEVICE = re.compile(
    r"/dev/(gdrdrv|fuse|kmsg|kvm|null|zero|full|u?random|tty\w*|nvidia\d+|nvidia(ctl|-uvm|-uvm-tools|-modeset)|kfd|hpu\d+"
    r"|knem|xpmem|accel\d+|hl\d+|hl_controlD\d+|efa\d+|net/tun|dri/(card|renderD)\d+|vfio/(vfio|\d+)"
    r"|infiniband/(uverbs|umad|issm|rdma_cm|ucm)\d*|accel/accel\w+)"
)
_BLOCK_DEVICE = re.compile(r"(sd|vd|xvd)[a-z]+\d*|nvme\d+n\d+(p\d+)?|loop\d+|dm-\d+|md\d+")
_OTHERS = (("DirectoryOrCreate", "what is written"), ("File", "a file"))
_FOLDERS = ("persistentVolumeClaim", "hostPath", "nfs")  # volumes with somebody's data


def sense_faults(job: Mapping[str, Any], scripts: list[str]) -> Found:
    """Cards and mounts that nothing uses, folders that may be missing, numbers that disagree."""
    if not _ranks_in_launcher(job):
        yield from _launcher_cards(job)
        yield from _launcher_mounts(job)
    for role in ROLES:
        yield from _volume_sense(pod_of(job, role), f"spec.mpiReplicaSpecs.{role}.template.spec")
    yield from _slots_and_cards(job)
    yield from _ranks_and_slots(job, scripts)


def pod_of(job: Mapping[str, Any], role: str) -> Object:
    return as_map(at(job, "spec", "mpiReplicaSpecs", role, "template", "spec"))


def _ranks_in_launcher(job: Mapping[str, Any]) -> bool:
    return at(job, "spec", "runLauncherAsWorker") is True


def _launcher_cards(job: Mapping[str, Any]) -> Found:
    if cards_of(pod_of(job, "Launcher")):
        key = "spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].resources.limits"
        yield warning(key, "the launcher requests cards that no rank uses", "remove them")


def _launcher_mounts(job: Mapping[str, Any]) -> Found:
    """Data that ranks only read, in a launcher that runs no rank and does not name the path."""
    launcher, worker = pod_of(job, "Launcher"), pod_of(job, "Worker")
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
            yield warning(key, f"the launcher mounts {path}, which only ranks read", "remove it")


def _volume_sense(pod: Object, key: str) -> Found:
    """Host folders whose absence goes unnoticed, and volumes that no container mounts."""
    containers = [one for kind in ("initContainers", "containers") for _, one in numbered(pod.get(kind))]
    mounted = {mount.get("name") for one in containers for _, mount in numbered(one.get("volumeMounts"))}
    mounted |= {device.get("name") for one in containers for _, device in numbered(one.get("volumeDevices"))}
    for number, volume in numbered(pod.get("volumes")):
        here = f"{key}.volumes[{number}]"
        if volume.get("name") and volume["name"] not in mounted:
            yield warning(here, f"no container mounts the volume {volume.get('name')!r}", "mount it, or remove it")
        if at(volume, "hostPath", "path"):
            yield from _host_path_sense(volume["hostPath"], f"{here}.hostPath")


def _host_path_sense(source: Object, key: str) -> Found:
    """A type that the kubelet would refuse, or none where one guards against an empty folder."""
    path, kind = str(source.get("path")), source.get("type")
    wanted = host_path_types(path)
    if not kind and wanted:
        fix = f"type: {wanted[0]}" + "".join(f", or {other} for {use}" for other, use in _OTHERS if other in wanted[1:])
        yield warning(key, f"has no type: a node without {path} would give an empty folder", fix)
    elif kind and len(wanted) == 1 and kind != wanted[0]:
        message = f"{path} is not of type {kind}: the kubelet would reject the pod"
        yield warning(f"{key}.type", message, f"type: {wanted[0]}")


def host_path_types(path: str) -> tuple[str, ...]:
    """Return the types that a path on a node can have, by its name; none where no advice is safe."""
    name = path.rstrip("/").rpartition("/")[2]
    if name.endswith(".sock"):
        return ("Socket",)
    if path.startswith("/dev/") and path.count("/") == 2 and _BLOCK_DEVICE.fullmatch(name):
        return ("BlockDevice",)
    if path.startswith("/dev/") and _CHAR_DEVICE.fullmatch(path):
        return ("CharDevice",)
    if re.fullmatch(r"/(dev|proc|sys)(/.*)?", path):
        return ()
    if "." in name.lstrip("."):
        return ("Directory", "DirectoryOrCreate", "File")
    return ("Directory", "DirectoryOrCreate")


def _slots_and_cards(job: Mapping[str, Any]) -> Found:
    slots, worker = at(job, "spec", "slotsPerWorker"), pod_of(job, "Worker")
    limits = as_map(at(worker, "containers", 0, "resources", "limits"))
    for name in CARD_RESOURCES:
        if name in limits and str(limits[name]) != str(slots):
            message = f"{slots} slots, but {limits[name]} of {name} in a worker"
            yield warning("spec.slotsPerWorker", message, "give both the same number")


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
                yield fault("spec.mpiReplicaSpecs.Worker.replicas", message, "render again instead of editing")
