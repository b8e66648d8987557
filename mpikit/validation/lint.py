# SPDX-License-Identifier: Apache-2.0
"""Lint an MPIJob: valid but probably unintended settings, and the objects it expects on the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.devices import CARD_RESOURCES, cards_of
from mpikit.diagnostics import Diagnostic, Found, fault, warning
from mpikit.resources import EXAMPLE_CLAIMS, EXAMPLE_IMAGES
from mpikit.text.nested import Object, as_map, at, is_int, numbered
from mpikit.validation.launch import Scripts, launch_faults, ranks_in_launcher, slots_of
from mpikit.validation.mpijob import ROLES, pod_of

# Device files by their names; other names below /dev can be folders, so there is no advice about them.
_CHAR_DEVICE = re.compile(
    r"/dev/(gdrdrv|fuse|kmsg|kvm|null|zero|full|u?random|tty\w*|nvidia\d+|nvidia(ctl|-uvm|-uvm-tools|-modeset)|kfd|hpu\d+"
    r"|knem|xpmem|accel\d+|hl\d+|hl_controlD\d+|efa\d+|net/tun|dri/(card|renderD)\d+|vfio/(vfio|\d+)"
    r"|infiniband/(uverbs|umad|issm|rdma_cm|ucm)\d*|accel/accel\w+)"
)
_BLOCK_DEVICE = re.compile(r"(sd|vd|xvd)[a-z]+\d*|nvme\d+n\d+(p\d+)?|loop\d+|dm-\d+|md\d+")
_OTHERS = (("DirectoryOrCreate", "what is written"), ("File", "a file"))
_FOLDERS = ("persistentVolumeClaim", "hostPath", "nfs")  # volumes with somebody's data


# A shell's variable, and the names that such a text means: $path is rather a part of a password.
_SHELL_VARIABLE = re.compile(r"(?<!\$)\$(\{[A-Za-z_]\w*\}|[A-Z][A-Z0-9_]+)")
_LIVE = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields")  # of an object that was read
_VOLCANO = "scheduling.volcano.sh/queue-name"
# Objects of the cluster that a pod names: field or source -> kind, and the field of the name.
_REFERENCES = {"serviceAccountName": "ServiceAccount", "priorityClassName": "PriorityClass"}
_VOLUME_OBJECTS = {
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
}
_WITH_IMAGE = {True: "render again with --set image=REGISTRY/NAME:TAG", False: "write image: REGISTRY/NAME:TAG"}
_VARIABLE_OBJECTS = {
    "configMapRef": "ConfigMap",
    "secretRef": "Secret",
    "configMapKeyRef": "ConfigMap",
    "secretKeyRef": "Secret",
}


def sense_faults(job: Mapping[str, Any], scripts: Scripts) -> Found:
    """Cards and mounts that nothing uses, folders that may be missing, numbers that disagree."""
    yield from _live_fields(job)
    yield from _policy_sense(job)
    if not ranks_in_launcher(job):
        yield from _launcher_cards(job)
        yield from _launcher_mounts(job)
    for role in ROLES:
        pod, key = pod_of(job, role), f"spec.mpiReplicaSpecs.{role}.template.spec"
        yield from _volume_sense(pod, key)
        yield from _shell_variables(pod, key)
    yield from _slots_and_cards(job)
    yield from launch_faults(job, scripts)
    yield from _kit_ranks(job, scripts)


def _live_fields(job: Mapping[str, Any]) -> Found:
    """Report the fields of `kubectl get -o yaml`, which only the server sets."""
    metadata = as_map(job.get("metadata"))
    given = [f"metadata.{name}" for name in _LIVE if metadata.get(name)] + ["status"] * bool(job.get("status"))
    if not given:
        return
    fails = metadata.get("resourceVersion") or metadata.get("uid")  # the server takes both for a new object
    message = "was copied from an object on a cluster" + (": kubectl apply fails if the object exists" if fails else "")
    yield warning(given[0], message, f"remove {', '.join(given)}")


def _policy_sense(job: Mapping[str, Any]) -> Found:
    """Report a gang that never fits, and a log that is deleted."""
    policy = as_map(at(job, "spec", "runPolicy"))
    if is_int(seconds := policy.get("ttlSecondsAfterFinished")) and seconds >= 0:
        message = f"deletes the launcher and its log {seconds} s after the end, and not the MPIJob"
        yield warning("spec.runPolicy.ttlSecondsAfterFinished", message, "remove it to keep the log")
    workers = at(job, "spec", "mpiReplicaSpecs", "Worker", "replicas")
    gang = "schedulingPolicy" in policy or _VOLCANO in as_map(at(job, "metadata", "annotations"))
    if not is_int(workers) or workers < 1 or not gang:
        return
    given = at(policy, "schedulingPolicy", "minAvailable")
    least = given if is_int(given) else workers + 1  # the operator's default
    key = "spec.runPolicy.schedulingPolicy" + (".minAvailable" if is_int(given) else "")
    waits = at(job, "spec", "launcherCreationPolicy") not in (None, "", "AtStartup")
    if least > workers + 1:
        message = f"{least} pods must fit at once, but the job has {workers + 1}: a gang scheduler would start none"
        yield warning(key, message, f"set minAvailable: {workers + 1}")
    elif least == workers + 1 and waits:
        message = (
            f"a gang scheduler waits for {least} pods, but the launcher is created only when the {workers} workers run"
        )
        yield warning(key, message, f"set minAvailable: {workers}, or launcherCreationPolicy: AtStartup")


def _shell_variables(pod: Object, key: str) -> Found:
    """Report $NAME in values of variables: Kubernetes expands $(NAME) only."""
    for kind in ("initContainers", "containers"):
        for place, container in numbered(pod.get(kind)):
            for number, variable in numbered(container.get("env")):
                value = variable.get("value")
                found = _SHELL_VARIABLE.search(value) if isinstance(value, str) and "\n" not in value else None
                if found:
                    message = f"{variable.get('name')} contains {found[0]}, which is not expanded"
                    fix = "write the value itself, or set it in a shell; $(NAME) is one defined above it in env"
                    yield warning(f"{key}.{kind}[{place}].env[{number}].value", message, fix)


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
            yield warning(here, f"no container mounts the volume {volume['name']!r}", "mount it, or remove it")
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
    slots, worker = slots_of(job), pod_of(job, "Worker")
    limits = as_map(at(worker, "containers", 0, "resources", "limits"))
    for name in CARD_RESOURCES:
        if name in limits and str(limits[name]) != str(slots):
            message = f"{slots} slot{'s' * (slots != 1)}, but {limits[name]} of {name} in a worker"
            yield warning("spec.slotsPerWorker", message, "give both the same number")


def _kit_ranks(job: Mapping[str, Any], scripts: Scripts) -> Found:
    """mpirun's -np in this kit's own script, which counts on every slot."""
    slots, replicas = at(job, "spec", "slotsPerWorker"), at(job, "spec", "mpiReplicaSpecs", "Worker", "replicas")
    own = at(job, "metadata", "labels", "app.kubernetes.io/managed-by") == "mpikit"
    if not own or not isinstance(slots, int) or not isinstance(replicas, int):
        return
    nodes = replicas + ranks_in_launcher(job)
    for script in [text for texts in scripts.values() for text in texts]:
        for ranks in re.findall(r"^\s*mpirun .*-np (\d+)", script, re.MULTILINE):
            if int(ranks) != slots * nodes:
                message = f"mpirun -np {ranks} in the ConfigMap, but {nodes} workers x {slots} slots"
                yield fault("spec.mpiReplicaSpecs.Worker.replicas", message, "render again instead of editing")


def example_names(job: Mapping[str, Any]) -> Found:
    """Report names that shipped profiles have only as examples: an image, and in the kit's own jobs a claim."""
    own = at(job, "metadata", "labels", "app.kubernetes.io/managed-by") == "mpikit"
    found: dict[str, Diagnostic] = {}  # each name once
    for role in ROLES:
        pod, key = pod_of(job, role), f"spec.mpiReplicaSpecs.{role}.template.spec"
        for kind in ("initContainers", "containers"):
            for place, container in numbered(pod.get(kind)):
                if (image := container.get("image")) in EXAMPLE_IMAGES:
                    message = f'"{image}" is an example name: no registry has this image'
                    found.setdefault(image, warning(f"{key}.{kind}[{place}].image", message, _WITH_IMAGE[own]))
        for place, volume in numbered(pod.get("volumes") if own else ()):
            if (claim := at(volume, "persistentVolumeClaim", "claimName")) in EXAMPLE_CLAIMS:
                where = f"{key}.volumes[{place}].persistentVolumeClaim.claimName"
                message = f'"{claim}" is an example name of the profiles'
                fix = "render again with your own claim ({pvc: NAME}), unless kubectl get pvc lists this one"
                found.setdefault(claim, warning(where, message, fix))
    yield from found.values()


def presumed(job: Mapping[str, Any]) -> list[str]:
    """The objects that the pods name, such as `ServiceAccount ada`: the cluster must have them."""
    return list(dict.fromkeys(found for role in ROLES for found in _presumed(pod_of(job, role))))


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
