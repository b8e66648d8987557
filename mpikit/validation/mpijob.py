# SPDX-License-Identifier: Apache-2.0
"""The MPIJob as its CRD and its operator have it: fields and types, since when, rules.

The operator has no webhook: what breaks its rules passes `kubectl apply` and then shows nothing but one event.
Sources: kubeflow/mpi-operator v0.8.2, types.go, validation.go, mpi_job_controller.go; mpijob.md of the measured facts.
Of older releases: types.go, validation.go, go.mod and deploy/v2beta1/mpi-operator.yaml of each. 0.8.1 was prepared, but
published as 0.8.2 only (RELEASE.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.config.types import DNS_LABEL, LABEL_MAX
from mpikit.devices import version_key
from mpikit.diagnostics import Found, fault, warning
from mpikit.errors import one_fault
from mpikit.text.nested import Object, as_map, at, numbered
from mpikit.validation.schema import Schema, metadata_reference, reference, schema_faults

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_INT32: Schema = {"type": "integer", "format": "int32"}
_INT64: Schema = {"type": "integer", "format": "int64"}
_QUANTITIES: Schema = {"type": "object", "additionalProperties": {"oneOf": [_TEXT, {"type": "number"}]}}


def _object(fields: Mapping[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": fields, "additionalProperties": False, "required": required}


_REPLICA = _object({"replicas": _INT32, "restartPolicy": _TEXT, "template": reference("PodTemplateSpec")})
_SCHEDULING = {
    "minAvailable": _INT32,
    "queue": _TEXT,
    "minResources": _QUANTITIES,
    "priorityClass": _TEXT,
    "scheduleTimeoutSeconds": _INT32,
}
_RUN_POLICY = {
    "cleanPodPolicy": _TEXT,
    "ttlSecondsAfterFinished": _INT32,
    "activeDeadlineSeconds": _INT64,
    "backoffLimit": _INT32,
    "suspend": _FLAG,
    "managedBy": _TEXT,
    "schedulingPolicy": _object(_SCHEDULING),
}
_SPEC = {
    "slotsPerWorker": _INT32,
    "runLauncherAsWorker": _FLAG,
    "sshAuthMountPath": _TEXT,
    "launcherCreationPolicy": _TEXT,
    "mpiImplementation": _TEXT,
    "mpiReplicaSpecs": _object({"Launcher": _REPLICA, "Worker": _REPLICA}),
    "runPolicy": _object(_RUN_POLICY),
}
MPIJOB: Schema = _object(
    {
        "apiVersion": _TEXT,
        "kind": _TEXT,
        "metadata": metadata_reference(),
        "spec": _object(_SPEC, "mpiReplicaSpecs"),
        "status": {"type": "object"},
    },
    "metadata",
    "spec",
)

# Kubernetes whose pod templates the CRD has: it drops newer fields without a word. That of 0.3 keeps every field.
RELEASES: dict[str, str] = {
    "0.3.0": "",
    "0.4.0": "1.25",
    "0.5.0": "1.29",
    "0.6.0": "1.31",
    "0.7.0": "1.34",
    "0.8.0": "1.35",
    "0.8.2": "1.35",
}
FIRST, NEWEST = next(iter(RELEASES)), next(reversed(RELEASES))
# Fields that came later, the newest first.
SINCE: dict[str, str] = {
    "spec.runPolicy.managedBy": "0.6",
    "spec.launcherCreationPolicy": "0.5",
    "spec.runLauncherAsWorker": "0.5",
    "spec.runPolicy.suspend": "0.4",
    "spec.runPolicy.schedulingPolicy": "0.4",
}
# Values of older fields that came later, and what to write instead.
VALUES_SINCE: dict[tuple[str, object], tuple[str, str]] = {
    ("spec.mpiImplementation", "MPICH"): ("0.5", "OpenMPI or Intel"),
    ("spec.slotsPerWorker", 0): ("0.4", "1 or more"),
}
_OR_NEWER = "or ask for a newer operator"
_UNKNOWN_FIELD = "no such field"  # of schema_faults
CHOICES: dict[str, tuple[str, ...]] = {
    "spec.runPolicy.cleanPodPolicy": ("None", "Running", "All"),
    "spec.runPolicy.managedBy": ("kubeflow.org/mpi-operator", "kueue.x-k8s.io/multikueue"),
    "spec.mpiImplementation": ("OpenMPI", "Intel", "MPICH"),
    "spec.launcherCreationPolicy": ("AtStartup", "WaitForWorkersReady"),
}
_RANDOM = "xxxxx"  # stands for what the API server adds to a generateName
RESTART_POLICIES = ("Never", "OnFailure")


def operator_faults(job: Mapping[str, Any]) -> Found:
    """what the operator would reject with one ValidationError event."""
    yield from _spec_faults(job)
    yield from _name_faults(job)
    for role in ROLES if at(job, "spec", "mpiReplicaSpecs") is not None else ():
        yield from _replica_faults(job, role)


def release_named(text: str) -> str:
    """Return the release that `text` means: 0.6 and v0.6.0 are 0.6.0. Raises ValuesError with the nearest one."""
    wanted = text.removeprefix("v")
    found = [one for one in RELEASES if one == wanted or one.rpartition(".")[0] == wanted]
    if found:
        return found[-1]
    message = f"{text!r} is not a release of the MPI Operator with MPIJob v2beta1"
    raise one_fault("--operator-version", message, f"--operator-version {nearest(text)} (known: {', '.join(RELEASES)})")


def nearest(text: str) -> str:
    """Return the release whose number is nearest to the one in a text, the newest if there is none."""
    number = re.search(r"\d{1,6}([.,]\d{1,6})*", text)
    if not number:
        return NEWEST
    wanted = _rank(number[0].replace(",", "."))
    return min(reversed(RELEASES), key=lambda one: abs(_rank(one) - wanted))


def _rank(version: str) -> int:
    major, minor, patch = (*(min(part, 99) for part in version_key(version)), 0, 0, 0)[:3]
    return major * 10_000 + minor * 100 + patch


def version_faults(job: Mapping[str, Any], operator: str, kubernetes: str) -> Found:
    """Yield fields and values that this release of the operator does not know, of those that `kubernetes` knows."""
    release = release_named(operator)
    for key, since in SINCE.items():
        if at(job, *key.split(".")) is not None and version_key(release) < version_key(since):
            yield fault(key, f"needs MPI Operator {since}, not {operator}", f"remove it, {_OR_NEWER}")
    for (key, value), (since, instead) in VALUES_SINCE.items():
        if at(job, *key.split(".")) == value and version_key(release) < version_key(since):
            yield fault(key, f"{value} needs MPI Operator {since}, not {operator}", f"write {instead}, {_OR_NEWER}")
    for role in ("Launcher", "Worker"):
        template = at(job, "spec", "mpiReplicaSpecs", role, "template")
        yield from _dropped_fields(template, ("spec", "mpiReplicaSpecs", role, "template"), release, kubernetes)


def _dropped_fields(template: Any, key: tuple[str, ...], release: str, kubernetes: str) -> Found:
    """Yield the fields of a pod template that the CRD of a release drops."""
    known_to = RELEASES[release]
    if not known_to or version_key(known_to) >= version_key(kubernetes):
        return
    unknown = set(_unknown_fields(template, key, kubernetes))
    for field in _unknown_fields(template, key, known_to):
        if field not in unknown:
            later = (one for one, version in RELEASES.items() if version_key(one) > version_key(release) and version)
            since = next((one for one in later if field not in _unknown_fields(template, key, RELEASES[one])), "")
            message = f"the CRD of MPI Operator {release} drops this field"
            yield fault(field, message, f"remove it, or ask for MPI Operator {since or f'newer than {NEWEST}'}")


def _unknown_fields(template: Any, key: tuple[str, ...], kubernetes: str) -> list[str]:
    found = schema_faults(template, reference("PodTemplateSpec"), kubernetes, key)
    return [one.key for one in found if one.message == _UNKNOWN_FIELD]


def _spec_faults(job: Mapping[str, Any]) -> Found:
    for key, choices in CHOICES.items():
        value = at(job, *key.split("."))
        if value is not None and value not in choices:
            # The controller takes any other creation policy for WaitForWorkersReady, without a word.
            report = warning if key.endswith("CreationPolicy") else fault
            yield report(key, f"{value!r} is not known to the operator", f"one of {', '.join(choices)}")
    for name in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"):
        yield from _not_negative(job, "spec", "runPolicy", name)
    yield from _not_negative(job, "spec", "slotsPerWorker")


def _not_negative(job: Mapping[str, Any], *path: str) -> Found:
    value = at(job, *path)
    if isinstance(value, int) and value < 0:
        yield fault(".".join(path), f"{value!r} is not a whole number of 0 or more", "give one")


def _name_faults(job: Mapping[str, Any]) -> Found:
    name, key = at(job, "metadata", "name"), "metadata.name"
    if not name and isinstance(at(job, "metadata", "generateName"), str):
        key, prefix = "metadata.generateName", job["metadata"]["generateName"]
        name = f"{prefix[: LABEL_MAX - len(_RANDOM)]}{_RANDOM}"
    workers = at(job, "spec", "mpiReplicaSpecs", "Worker", "replicas")
    last = workers - 1 if isinstance(workers, int) and workers > 0 else 0
    label = f"{name}-worker-{last}"
    if not isinstance(name, str):
        yield fault(key, "is missing or not text", "give a name in quotes")
    elif not DNS_LABEL.fullmatch(name):
        yield fault(
            key, f"{name!r} is not a DNS-1035 label", "start with a-z, go on with a-z, 0-9 and -, end without -"
        )
    elif len(label) > LABEL_MAX:
        message = f"the worker's name {label!r} is not a DNS-1035 label of at most {LABEL_MAX} characters"
        yield fault(key, message, "use a-z, then a-z, 0-9 and -, and fewer characters")
    elif key == "metadata.generateName":
        message = "kubectl apply does not take generateName; kubectl create does"
        yield warning(key, message, "kubectl create -f FILE, or give metadata.name")


def _replica_faults(job: Mapping[str, Any], role: str) -> Found:
    key = f"spec.mpiReplicaSpecs.{role}"
    replica = at(job, "spec", "mpiReplicaSpecs", role)
    if not isinstance(replica, dict):  # without workers the operator runs the launcher alone
        report = fault if role == "Launcher" else warning
        yield report(key, "is missing", f"give the {role}'s replicas and template")
        return
    replicas = replica.get("replicas", 1 if role == "Launcher" else 0)  # the operator's defaults
    if role == "Launcher" and replicas not in (1, None):
        yield fault(f"{key}.replicas", f"{replicas!r}: there is exactly one launcher", "set 1")
    if role == "Worker" and not (isinstance(replicas, int) and replicas >= 1):
        yield fault(f"{key}.replicas", f"{replicas!r}: at least one worker is needed", "set 1 or more")
    policy = replica.get("restartPolicy")
    if policy not in (*RESTART_POLICIES, None, ""):
        message = f"{policy!r} is refused by the operator"
        yield fault(f"{key}.restartPolicy", message, f"one of {', '.join(RESTART_POLICIES)}")
    containers = at(replica, "template", "spec", "containers")
    if not isinstance(containers, list) or not containers:
        yield fault(f"{key}.template.spec.containers", "is empty", "give one container")
    own = at(replica, "template", "spec", "restartPolicy")
    if own is not None and own != (policy or ("OnFailure" if role == "Launcher" else "Never")):
        message = f"{own!r} is overridden by the operator"
        yield warning(f"{key}.template.spec.restartPolicy", message, f"set {key}.restartPolicy instead")


ROLES = ("Launcher", "Worker")


def pod_of(job: Mapping[str, Any], role: str) -> Object:
    """Return the PodSpec of a role; empty if there is none."""
    return as_map(at(job, "spec", "mpiReplicaSpecs", role, "template", "spec"))


DEFAULT_SSH_PATH = "/root/.ssh"


DEFAULT_MPI = "OpenMPI"


_CONFIG_PATH = "/etc/mpi"


VOLUMES = {"Launcher": ("ssh-auth", "mpi-job-config"), "Worker": ("ssh-auth",)}


_ROLE_ENV = ("K_MPI_JOB_ROLE",)


_MPI_ENV: dict[str, tuple[str, ...]] = {
    "OpenMPI": (
        "OMPI_MCA_orte_keep_fqdn_hostnames",
        "OMPI_MCA_orte_default_hostfile",
        "OMPI_MCA_plm_rsh_args",
        "OMPI_MCA_orte_set_default_slots",
    ),
    "Intel": ("I_MPI_HYDRA_HOST_FILE", "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS", "I_MPI_PERHOST"),
    "MPICH": ("HYDRA_HOST_FILE", "HYDRA_LAUNCH_EXTRA_ARGS"),
}


_NO_CARDS_ENV = ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")  # made empty in a launcher that runs no rank


_OWN_LABELS = "training.kubeflow.org/"


_OVERRIDDEN = ("hostname", "subdomain")  # DNS names of the workers, below the operator's Service


# Objects that it makes for a job, by what follows the job's name; it stops at one that is not its own.
_OBJECTS = {"ConfigMap": "-config", "Secret": "-ssh", "Service": "", "Job": "-launcher"}


def collision_faults(job: Mapping[str, Any]) -> Found:
    """What the operator adds to a template that has it already: pods would be refused, or a value lost."""
    for role in ROLES:
        key, template = f"spec.mpiReplicaSpecs.{role}.template", at(job, "spec", "mpiReplicaSpecs", role, "template")
        yield from _volume_collisions(job, role, template, key)
        yield from _overrides(job, role, template, key)


def _volume_collisions(job: Mapping[str, Any], role: str, template: Any, key: str) -> Found:
    ssh_path = at(job, "spec", "sshAuthMountPath") or DEFAULT_SSH_PATH
    paths = (ssh_path, _CONFIG_PATH) if role == "Launcher" else (ssh_path,)
    for number, volume in numbered(at(template, "spec", "volumes")):
        if volume.get("name") in VOLUMES[role]:
            name = f"{key}.spec.volumes[{number}].name"
            yield fault(name, f"{volume['name']!r} is a volume that the operator adds", "give another name")
    for number, mount in numbered(at(template, "spec", "containers", 0, "volumeMounts")):
        if mount.get("mountPath") in paths:
            name = f"{key}.spec.containers[0].volumeMounts[{number}].mountPath"
            yield fault(name, f"the operator mounts its own at {mount['mountPath']}", "mount it elsewhere")


def _overrides(job: Mapping[str, Any], role: str, template: Any, key: str) -> Found:
    added = tuple(_variables(job, role))
    for number, variable in numbered(at(template, "spec", "containers", 0, "env")):
        if variable.get("name") in added:
            name = f"{key}.spec.containers[0].env[{number}]"
            yield warning(name, f"the operator sets {variable['name']} itself", "remove it")
    for label in as_map(at(template, "metadata", "labels")):
        if str(label).startswith(_OWN_LABELS):
            yield warning(f"{key}.metadata.labels.{label}", "is the operator's own label", "remove it")
    for field in _OVERRIDDEN:
        if at(template, "spec", field):
            yield warning(f"{key}.spec.{field}", "is overridden by the operator", "remove it")
    policy = at(template, "spec", "dnsPolicy")
    if at(template, "spec", "hostNetwork") is True and policy not in (None, "", "ClusterFirstWithHostNet"):
        message = f"{policy!r} is overridden by the operator: ClusterFirstWithHostNet, since hostNetwork is true"
        yield warning(f"{key}.spec.dnsPolicy", message, "remove it")


def _variables(job: Mapping[str, Any], role: str) -> Iterator[str]:
    """Names of the variables that the operator sets in a pod."""
    yield from _ROLE_ENV
    if role == "Launcher":
        yield from _MPI_ENV.get(at(job, "spec", "mpiImplementation") or DEFAULT_MPI, ())
        if at(job, "spec", "runLauncherAsWorker") is not True:
            yield from _NO_CARDS_ENV


def name_collisions(job: Mapping[str, Any], other: Mapping[str, Any]) -> Found:
    """A fault of another object in the stream, if it has the name of one that the operator makes for this job."""
    kind, name, owner = other.get("kind"), at(other, "metadata", "name"), at(job, "metadata", "name")
    together = at(other, "metadata", "namespace") == at(job, "metadata", "namespace")
    if together and kind in _OBJECTS and name == f"{owner}{_OBJECTS[kind]}":
        message = (
            f"{name!r} is the name of the {kind} that the operator makes for MPIJob {owner}; the job would not start"
        )
        yield fault("metadata.name", message, "give another name")
