# SPDX-License-Identifier: Apache-2.0
"""How anybody's job starts its ranks: mpirun's count against the slots, and whether ssh can reach the workers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.diagnostics import Diagnostic, Found, fault, warning
from mpikit.text.mpirun import Launch, launches, launches_in
from mpikit.text.nested import Object, as_map, at, is_int, numbered
from mpikit.validation.mpijob import DEFAULT_MPI, DEFAULT_SSH_PATH, ROLES, pod_of

Scripts = Mapping[object, list[str]]
"""ConfigMap -> its texts."""

SSH_PORT = 22
_GROUP_AND_OTHERS = 0o077
_SECRET_MODE = 0o644  # Kubernetes' default
_GROUP_READS = 0o040  # what the kubelet adds for fsGroup, to any mode
_PRIVATE_KEY = re.compile(r"(.*/)?(id_(rsa|dsa|ecdsa|ed25519)|ssh-?private-?key)")
_OTHER_PORT = re.compile(r"(?:(?<![\w-])-p\s*|\bPort[\s=]+)([0-9]+)", re.IGNORECASE)
_OWN_CONFIG = re.compile(r"(sshd\S*\s.*-f\s*\S+)|sshd_config", re.DOTALL)
_LAUNCHER = "spec.mpiReplicaSpecs.Launcher.template.spec"


def launch_faults(job: Mapping[str, Any], scripts: Scripts) -> Found:
    """Report ranks that do not fit the slots, and keys and ports with which ssh fails."""
    yield from _slot_faults(job, scripts)
    for role in ROLES:
        pod, key = pod_of(job, role), f"spec.mpiReplicaSpecs.{role}.template.spec"
        yield from _user_faults(job, pod, key)
    launcher = pod_of(job, "Launcher")  # mpirun's ssh runs here
    yield from _group_faults(job, launcher, _LAUNCHER)
    yield from _key_mode_faults(launcher, _LAUNCHER)
    yield from _port_faults(job)


def slots_of(job: Mapping[str, Any]) -> int:
    """Return spec.slotsPerWorker, or the operator's default."""
    given = at(job, "spec", "slotsPerWorker")
    return given if is_int(given) else 1


def ranks_in_launcher(job: Mapping[str, Any]) -> bool:
    return at(job, "spec", "runLauncherAsWorker") is True


def _slot_faults(job: Mapping[str, Any], scripts: Scripts) -> Found:
    """Compare the largest -np with the places that the operator's hostfile has."""
    replicas, slots = at(job, "spec", "mpiReplicaSpecs", "Worker", "replicas"), slots_of(job)
    if not is_int(replicas) or replicas < 1 or slots < 0 or _allowed_by_environment(job):
        return
    found = list(_launches(job, scripts))
    if any(launch.own_hosts or launch.oversubscribes for _, launch in found):
        return
    counted = [pair for pair in found if pair[1].ranks is not None]
    if not counted:
        yield from _per_node_faults(job, found)
        return
    key, largest = max(counted, key=lambda pair: pair[1].ranks or 0)
    nodes = replicas + ranks_in_launcher(job)
    if (largest.ranks or 0) > slots * nodes:
        yield _too_many(job, key, largest.ranks or 0, nodes)
    elif (largest.ranks or 0) < slots * nodes and not largest.placed:
        message = f"mpirun starts {_ranks(largest.ranks)}, but the hostfile has {_places(job, nodes)}"
        yield warning(key, message, f"write -np {slots * nodes}, or lower slotsPerWorker or the number of workers")


def _too_many(job: Mapping[str, Any], key: str, ranks: int, nodes: int) -> Diagnostic:
    message = f"mpirun starts {_ranks(ranks)}, but the hostfile has only {_places(job, nodes)}"
    enough = -(-ranks // nodes)
    fix = f"write -np {slots_of(job) * nodes}, or set spec.slotsPerWorker: {enough}"
    if (at(job, "spec", "mpiImplementation") or DEFAULT_MPI) != DEFAULT_MPI:  # Hydra starts at the first host again
        return warning(key, f"{message}: ranks would share slots", fix)
    return fault(key, f"{message}: Open MPI would start none", f"{fix}, or add --oversubscribe")


def _per_node_faults(job: Mapping[str, Any], found: list[tuple[str, Launch]]) -> Found:
    """Report more ranks on each node than it has slots; Hydra's -ppn replaces the slots."""
    key, number = max(((key, launch.per_node or 0) for key, launch in found), key=lambda pair: pair[1], default=("", 0))
    if number > slots_of(job) and (at(job, "spec", "mpiImplementation") or DEFAULT_MPI) == DEFAULT_MPI:
        slots = "slotsPerWorker is" if is_int(at(job, "spec", "slotsPerWorker")) else "the default of slotsPerWorker is"
        message = f"mpirun starts {_ranks(number)} on each node, but {slots} {slots_of(job)}: Open MPI would start none"
        yield fault(key, message, f"set spec.slotsPerWorker: {number}, or add --oversubscribe")


def _ranks(number: int | None) -> str:
    return f"{number} rank{'s' * (number != 1)}"


def _places(job: Mapping[str, Any], nodes: int) -> str:
    slots = slots_of(job)
    unset = "" if is_int(at(job, "spec", "slotsPerWorker")) else " (the default of slotsPerWorker)"
    launcher = ", the launcher included" if ranks_in_launcher(job) else ""
    return f"{nodes} worker{'s' * (nodes != 1)} x {slots}{unset} = {slots * nodes} slots{launcher}"


def _launches(job: Mapping[str, Any], scripts: Scripts) -> Iterator[tuple[str, Launch]]:
    """Yield each mpirun of the launcher, with its key: in its command or args, or in a ConfigMap that it mounts."""
    pod = pod_of(job, "Launcher")
    container, key = as_map(at(pod, "containers", 0)), f"{_LAUNCHER}.containers[0]"
    words = [list_of(container, field) for field in ("command", "args")]
    in_args = not any("mpirun" in str(word) or "mpiexec" in str(word) for word in words[0])
    for launch in launches([*words[0], *words[1]]):
        yield f"{key}.{'args' if in_args else 'command'}", launch
    for number, volume in numbered(pod.get("volumes")):
        for text in scripts.get(at(volume, "configMap", "name"), ()):
            for launch in launches_in(text):
                yield f"{_LAUNCHER}.volumes[{number}]", launch


def list_of(container: Object, field: str) -> list[object]:
    given = container.get(field)
    return given if isinstance(given, list) else []


def _allowed_by_environment(job: Mapping[str, Any]) -> bool:
    """Whether a variable of the launcher allows more ranks than slots, or sets another hostfile."""
    variables = numbered(at(pod_of(job, "Launcher"), "containers", 0, "env"))
    given = {f"{one.get('name')}={one.get('value')}".lower() for _, one in variables}
    return any("oversubscribe" in one or "hostfile" in one for one in given)


def _security(pod: Object, name: str) -> Any:
    """Return a field of the first container's securityContext, else of the pod's."""
    own = at(pod, "containers", 0, "securityContext", name)
    return at(pod, "securityContext", name) if own is None else own


def _key_folder(job: Mapping[str, Any]) -> str:
    return str(at(job, "spec", "sshAuthMountPath") or DEFAULT_SSH_PATH)


def _below_root(path: str) -> bool:
    return f"{path}/".startswith("/root/")


def _user_faults(job: Mapping[str, Any], pod: Object, key: str) -> Found:
    """Report processes that are not root's, with the operator's keys in the home of root."""
    user = _security(pod, "runAsUser")
    other = (is_int(user) and user > 0) or (user is None and _security(pod, "runAsNonRoot") is True)
    if other and _below_root(_key_folder(job)):
        name = "runAsUser" if user is not None else "runAsNonRoot"
        own = at(pod, "containers", 0, "securityContext", name) is not None
        who = f"user {user}" if user is not None else "a user other than root"
        message = f"{who} cannot read the ssh keys, which the operator mounts at {_key_folder(job)}"
        place = f"{key}.containers[0].securityContext.{name}" if own else f"{key}.securityContext.{name}"
        yield warning(place, message, "set spec.sshAuthMountPath: /home/USER/.ssh, the home of that user")


def _group_faults(job: Mapping[str, Any], pod: Object, key: str) -> Found:
    """Report fsGroup, which makes the keys readable for a group: ssh of root then ignores them."""
    group = at(pod, "securityContext", "fsGroup")
    if is_int(group) and not _security(pod, "runAsUser") and _below_root(_key_folder(job)):
        if _security(pod, "runAsNonRoot") is True:
            return
        message = f"makes the ssh key readable for group {group}, and ssh of root then ignores the key"
        yield warning(f"{key}.securityContext.fsGroup", message, "remove it, or run as another user than root")


def _key_mode_faults(pod: Object, key: str) -> Found:
    """Report a Secret with a private key whose mode lets others read it: ssh of root ignores the key."""
    if _security(pod, "runAsUser"):
        return  # the file is root's, and ssh looks at the mode of its user's own files only
    added = _GROUP_READS if is_int(at(pod, "securityContext", "fsGroup")) else 0
    mounts = numbered(at(pod, "containers", 0, "volumeMounts"))
    folders = {mount.get("name"): str(mount.get("mountPath")) for _, mount in mounts}
    for number, volume in numbered(pod.get("volumes")):
        secret, folder = volume.get("secret"), folders.get(volume.get("name"))
        if not isinstance(secret, dict) or folder is None or not _has_key(secret, folder):
            continue
        modes = [one.get("mode") for _, one in numbered(secret.get("items")) if _is_key(one)]
        given = next((mode for mode in (*modes, secret.get("defaultMode")) if is_int(mode)), _SECRET_MODE)
        mode = given | added
        if mode & _GROUP_AND_OTHERS:
            place = f"{key}.volumes[{number}].secret"
            place += ".defaultMode" if is_int(secret.get("defaultMode")) else ""
            message = f"the private key at {folder} has mode {mode:04o}: ssh ignores a key that others can read"
            yield warning(
                place,
                message,
                "remove fsGroup" if added and not given & 0o077 else "set defaultMode: 0400 (256 in JSON)",
            )


def _has_key(secret: Object, folder: str) -> bool:
    items = numbered(secret.get("items"))
    named = any(_is_key(item) for _, item in items) if items else True
    return named and (folder.rstrip("/").endswith("/.ssh") or bool(_PRIVATE_KEY.fullmatch(folder)))


def _is_key(item: Object) -> bool:
    return bool(_PRIVATE_KEY.fullmatch(str(item.get("path"))))


def _port_faults(job: Mapping[str, Any]) -> Found:
    """Report workers in the network of their node with an sshd on port 22, where the node's own sshd listens."""
    worker = pod_of(job, "Worker")
    container = as_map(at(worker, "containers", 0))
    declared = [port.get("containerPort") for _, port in numbered(container.get("ports"))]
    declared.append(at(container, "readinessProbe", "tcpSocket", "port"))
    if worker.get("hostNetwork") is not True or any(is_int(port) and port != SSH_PORT for port in declared):
        return
    texts = [text for role in ROLES for text in _texts(pod_of(job, role))]
    ports = {int(number) for text in texts for number in _OTHER_PORT.findall(text)}
    if ports - {SSH_PORT} or any(_OWN_CONFIG.search(text) for text in texts):
        return
    key = "spec.mpiReplicaSpecs.Worker.template.spec.hostNetwork"
    message = "sshd would listen on port 22 of the node, where the node's own sshd listens"
    fix = "start /usr/sbin/sshd -De -p 2222 in the Worker, and mpirun --mca plm_rsh_args '-p 2222' in the Launcher"
    yield warning(key, message, f"{fix}; ports: [{{containerPort: 2222}}] keeps two workers from sharing a node")


def _texts(pod: Object) -> Iterator[str]:
    """Yield the command line of the first container, and each of its variables."""
    container = as_map(at(pod, "containers", 0))
    yield " ".join(str(word) for field in ("command", "args") for word in list_of(container, field))
    for _, variable in numbered(container.get("env")):
        yield str(variable.get("value"))
