# SPDX-License-Identifier: Apache-2.0
"""The MPIJob as its CRD and its operator have it: fields and types, since when, rules.

The operator has no webhook: what breaks its rules passes `kubectl apply` and then shows nothing but one event.
Sources: kubeflow/mpi-operator v0.8.2, types.go, validation.go, mpi_job_controller.go; mpijob.md of the measured facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.config.types import DNS_LABEL, LABEL_MAX
from mpikit.diagnostics import Found, fault, warning
from mpikit.text.nested import Object, as_map, at, numbered
from mpikit.validation.schema import Schema, metadata_reference, reference

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
