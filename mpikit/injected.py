# SPDX-License-Identifier: Apache-2.0
"""What the MPI Operator adds to a job and overrides in it, and what of a manifest collides with that.

Source: kubeflow/mpi-operator v0.8, mpi_job_controller.go: newWorker, newLauncherPodTemplate, setupSSHOnPod. It touches
the first container of a pod only, and what it appends to env wins over an earlier variable of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.kubeschema import Found
from mpikit.objects import at
from mpikit.podnames import as_map, numbered

ROLES = ("Launcher", "Worker")
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
            yield name, f"{volume['name']!r} is a volume that the operator adds", "give another name", "fault"
    for number, mount in numbered(at(template, "spec", "containers", 0, "volumeMounts")):
        if mount.get("mountPath") in paths:
            name = f"{key}.spec.containers[0].volumeMounts[{number}].mountPath"
            yield name, f"the operator mounts its own at {mount['mountPath']}", "mount it elsewhere", "fault"


def _overrides(job: Mapping[str, Any], role: str, template: Any, key: str) -> Found:
    added = tuple(_variables(job, role))
    for number, variable in numbered(at(template, "spec", "containers", 0, "env")):
        if variable.get("name") in added:
            name = f"{key}.spec.containers[0].env[{number}]"
            yield name, f"the operator sets {variable['name']} itself", "take it out", "warning"
    for label in as_map(at(template, "metadata", "labels")):
        if str(label).startswith(_OWN_LABELS):
            yield f"{key}.metadata.labels.{label}", "is the operator's own label", "take it out", "warning"
    for field in _OVERRIDDEN:
        if at(template, "spec", field):
            yield f"{key}.spec.{field}", "is overridden by the operator", "take it out", "warning"
    policy = at(template, "spec", "dnsPolicy")
    if at(template, "spec", "hostNetwork") is True and policy not in (None, "", "ClusterFirstWithHostNet"):
        message = f"{policy!r} is overridden by the operator: ClusterFirstWithHostNet, since hostNetwork is true"
        yield f"{key}.spec.dnsPolicy", message, "take it out", "warning"


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
        yield "metadata.name", message, "give another name", "fault"
