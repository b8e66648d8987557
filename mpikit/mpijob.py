# SPDX-License-Identifier: Apache-2.0
"""The MPIJob as its CRD and its operator have it: fields and types, since when, rules.

The operator has no webhook: what breaks its rules passes `kubectl apply` and then shows nothing but one event.
Sources: kubeflow/mpi-operator v0.8.2, types.go, validation.go, mpi_job_controller.go; mpijob.md of the measured facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mpikit.errors import one_fault
from mpikit.fields import DNS_LABEL, LABEL_MAX
from mpikit.kubeschema import Found, Schema, metadata_reference, reference
from mpikit.objects import at
from mpikit.profiles import version_key

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

FIRST = "0.3"  # the first release with v2beta1
# Fields that came later, the newest first. Source: types.go of each release.
SINCE: dict[str, str] = {
    "spec.runPolicy.managedBy": "0.6",
    "spec.launcherCreationPolicy": "0.5",
    "spec.runLauncherAsWorker": "0.5",
    "spec.runPolicy.suspend": "0.4",
    "spec.runPolicy.schedulingPolicy": "0.4",
}
CHOICES: dict[str, tuple[str, ...]] = {
    "spec.runPolicy.cleanPodPolicy": ("None", "Running", "All"),
    "spec.runPolicy.managedBy": ("kubeflow.org/mpi-operator", "kueue.x-k8s.io/multikueue"),
    "spec.mpiImplementation": ("OpenMPI", "Intel", "MPICH"),
    "spec.launcherCreationPolicy": ("AtStartup", "WaitForWorkersReady"),
}
RESTART_POLICIES = ("Never", "OnFailure")


def operator_faults(job: Mapping[str, Any]) -> Found:
    """What the operator would refuse with one ValidationError event."""
    yield from _spec_faults(job)
    yield from _name_faults(job)
    for role in ("Launcher", "Worker"):
        yield from _replica_faults(job, role)


def version_faults(job: Mapping[str, Any], operator: str) -> Found:
    """Fields that this release of the operator does not have yet: its CRD drops them without a word."""
    release = version_key(operator.removeprefix("v"))[:2]
    if release < version_key(FIRST):
        raise one_fault("--operator-version", f"{operator!r} is no release with MPIJob v2beta1", "give one such as 0.6")
    for key, since in SINCE.items():
        if at(job, *key.split(".")) is not None and release < version_key(since):
            yield (
                key,
                f"needs MPI Operator {since}, not {operator}",
                "leave it out, or ask for a newer operator",
                "fault",
            )


def _spec_faults(job: Mapping[str, Any]) -> Found:
    for key, choices in CHOICES.items():
        value = at(job, *key.split("."))
        if value is not None and value not in choices:
            # The controller takes any other creation policy for WaitForWorkersReady, without a word.
            severity: Literal["fault", "warning"] = "warning" if key.endswith("CreationPolicy") else "fault"
            yield key, f"{value!r} is not known to the operator", f"one of {', '.join(choices)}", severity
    for name in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"):
        yield from _not_negative(job, "spec", "runPolicy", name)
    yield from _not_negative(job, "spec", "slotsPerWorker")


def _not_negative(job: Mapping[str, Any], *path: str) -> Found:
    value = at(job, *path)
    if isinstance(value, int) and value < 0:
        yield ".".join(path), f"{value!r} is no whole number of 0 or more", "give one", "fault"


def _name_faults(job: Mapping[str, Any]) -> Found:
    name = at(job, "metadata", "name")
    workers = at(job, "spec", "mpiReplicaSpecs", "Worker", "replicas")
    last = workers - 1 if isinstance(workers, int) and workers > 0 else 0
    label = f"{name}-worker-{last}"
    if not isinstance(name, str):
        yield "metadata.name", f"{name!r} is no text", "give a name in quotes", "fault"
    elif not DNS_LABEL.fullmatch(label) or len(label) > LABEL_MAX:
        message = f"the worker's name {label!r} is no DNS-1035 label of at most {LABEL_MAX} characters"
        yield "metadata.name", message, "use a-z, then a-z, 0-9 and -, and fewer characters", "fault"


def _replica_faults(job: Mapping[str, Any], role: str) -> Found:
    key = f"spec.mpiReplicaSpecs.{role}"
    replica = at(job, "spec", "mpiReplicaSpecs", role)
    if not isinstance(replica, dict):  # without workers the operator runs the launcher alone
        severity: Literal["fault", "warning"] = "fault" if role == "Launcher" else "warning"
        yield key, "is missing", f"give the {role}'s replicas and template", severity
        return
    replicas = replica.get("replicas", 1 if role == "Launcher" else 0)  # the operator's defaults
    if role == "Launcher" and replicas not in (1, None):
        yield f"{key}.replicas", f"{replicas!r}: there is exactly one launcher", "set 1", "fault"
    if role == "Worker" and not (isinstance(replicas, int) and replicas >= 1):
        yield f"{key}.replicas", f"{replicas!r}: at least one worker is needed", "set 1 or more", "fault"
    policy = replica.get("restartPolicy")
    if policy not in (*RESTART_POLICIES, None, ""):
        message = f"{policy!r} is refused by the operator"
        yield f"{key}.restartPolicy", message, f"one of {', '.join(RESTART_POLICIES)}", "fault"
    containers = at(replica, "template", "spec", "containers")
    if not isinstance(containers, list) or not containers:
        yield f"{key}.template.spec.containers", "is empty", "give one container", "fault"
    own = at(replica, "template", "spec", "restartPolicy")
    if own is not None and own != (policy or ("OnFailure" if role == "Launcher" else "Never")):
        message = f"{own!r} is overridden by the operator"
        yield f"{key}.template.spec.restartPolicy", message, f"set {key}.restartPolicy instead", "warning"
