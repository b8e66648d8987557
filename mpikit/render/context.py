# SPDX-License-Identifier: Apache-2.0
"""What the templates print: each pod, each object's metadata, and what the scripts need beside the job's own values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mpikit.config.job import Job, Mount
from mpikit.config.prepare import Task
from mpikit.config.sections import EnvVar, Exclude, Pod, Resources
from mpikit.devices import synapse_image
from mpikit.render.payload import TASK_ARCHIVE, TRAINING_ARCHIVE
from mpikit.render.placement import worker_affinity, worker_spread
from mpikit.text.quoting import literal_dollars
from mpikit.text.units import quantity
from mpikit.trainer import MEGA_PARAMETERS

GRACE_SECONDS = 45  # the step in flight, an evaluation's batch, and the end of ranks and pod
GRACE_SECONDS_PER_GIB = 40  # shared storage on a bad day, 50 MiB/s; a stop may wait for two checkpoints

# To run without root, and so at the "restricted" Pod Security level. Source: the Pod Security Standards; the rest was
# measured in pods with Debian's OpenSSH 9.2.
SSH_PORT = 22
# Below 1024 a port needs NET_BIND_SERVICE, which "restricted" removes by default; and 22 of a node is that of its sshd.
OWN_SSH_PORT = 2222
CONTAINER_SECURITY: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

# By it a second launcher pod of the same Job finds what the first one left (vit/supervise/history.py).
_JOB_UID = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}}
_NODE_NAME = {"fieldRef": {"fieldPath": "spec.nodeName"}}

# In the order of the upstream script, then the rest of Train in its own order.
_UPSTREAM_ORDER = (
    *("name", "dataset", "model_type", "num_steps", "eval_every"),
    *("train_batch_size", "gradient_accumulation_steps", "img_size", "learning_rate", "autocast"),
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """metadata of one object."""

    name: str
    namespace: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodContext:
    """A pod with its one container, as the macro `pod` of templates/pod.j2 prints it: launcher, worker or task."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account_name: str | None
    image_pull_secrets: list[dict[str, str]]
    grace_seconds: int
    host_ipc: bool
    node_selector: Mapping[str, str]
    tolerations: list[dict[str, Any]]
    affinity: Mapping[str, Any]
    more_fields: Mapping[str, Any]
    """Fields of the PodSpec that the template has no line for."""

    container: str
    """Name of the container."""
    image: str
    image_pull_policy: str | None
    container_security: Mapping[str, Any] | None
    command: tuple[str, ...]
    kit_name: str | None
    """The ConfigMap that is mounted at /kit; None with `delivery: mydir`."""
    passwd: bool
    """Whether that ConfigMap brings an /etc/passwd."""
    folders: tuple[Mount, ...]
    volumes: list[dict[str, Any]]
    """The user's own, as in a PodSpec."""
    volume_mounts: list[dict[str, Any]]
    """The user's own, as in a container."""

    env: tuple[EnvVar, ...] = ()
    env_from: tuple[dict[str, Any], ...] = ()
    resources: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    shm_size: str | None = None
    """Size of an emptyDir at /dev/shm; None leaves the container runtime's."""
    ready_port: int | None = None
    """Port of sshd, whose opening makes a worker ready."""
    listen_port: int | None = None
    """The same of another server."""
    host_port: int | None = None
    """Port of the node that the pod needs: the scheduler gives no node two such pods."""
    stop_command: tuple[str, ...] = ()
    """Command of the preStop hook."""
    working_dir: str | None = None
    restart_in_place: bool = False
    """Whether the kubelet starts the container anew in its pod if it is killed."""
    restart_policy: str | None = None
    """None in an MPIJob, whose replicas have their own."""


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """What the scripts need beside the job's own values: places, ports, seconds, ranks on cores and flags."""

    job: Job

    @property
    def folder(self) -> str:
        """Where the pods find setup.sh, run_vit.sh and the trainer."""
        return "/mydir" if self.job.delivery == "mydir" else "/kit"

    @property
    def archive(self) -> str | None:
        """The archive of the trainer in `folder`; None if the trainer itself is there."""
        return None if self.job.delivery == "mydir" else TRAINING_ARCHIVE

    @property
    def launcher_log(self) -> str:
        """File in output/logs/ that keeps what the launcher said."""
        return f"{self.job.job_name}.launcher.log"

    @property
    def output_free_bytes(self) -> int:
        """outputFreeGiB x 2^30."""
        return int(self.job.output_free_gib * 2**30)

    @property
    def own_key_folder(self) -> str | None:
        """sshAuthMountPath, if ssh and sshd do not look there by themselves."""
        return None if self.job.ssh_auth_mount_path == "/root/.ssh" else self.job.ssh_auth_mount_path

    @property
    def ssh_port(self) -> int:
        """Port of the workers' sshd."""
        return self.own_ssh_port or SSH_PORT

    @property
    def own_ssh_port(self) -> int | None:
        """OWN_SSH_PORT without root or in the network of the node; None leaves the port to ssh and sshd."""
        return OWN_SSH_PORT if self.job.run_as_user or self.job.host_network else None

    @property
    def checkpoint_gib(self) -> float:
        """Size of a checkpoint: weights and SGD's momentum, or AdamW's two moments, 4 bytes each."""
        train = self.job.train
        copies = (3 if train.optimizer == "adamw" else 2) + (train.ema_decay is not None)
        return MEGA_PARAMETERS[train.model_type] * 1e6 * 4 * copies / 2**30

    @property
    def grace_seconds(self) -> int:
        """terminationGracePeriodSeconds, else GRACE_SECONDS + GRACE_SECONDS_PER_GIB x checkpoint_gib."""
        derived = GRACE_SECONDS + math.ceil(GRACE_SECONDS_PER_GIB * self.checkpoint_gib)
        return self.job.termination_grace_period_seconds or derived

    @property
    def stop_seconds(self) -> int:
        """How long preStop waits for the ranks: the grace period less 5 s for sshd to end."""
        return max(1, self.grace_seconds - 5)

    @property
    def cores_per_rank(self) -> int | None:
        """Physical cores of a node / cards, rounded down (PE); None if the host is not known or splits unevenly."""
        host, cards = self.job.host, self.job.cards
        if not host or cards % host.sockets:
            return None
        return host.sockets * host.cores_per_socket // cards or None

    @property
    def ranks_per_socket(self) -> int:
        """cards / sockets; only asked for when cores_per_rank is known."""
        assert self.job.host
        return self.job.cards // self.job.host.sockets

    @property
    def num_threads(self) -> int | None:
        """Threads of a rank (OMP_NUM_THREADS): its cores, else its share of the CPU limit; None: torch decides."""
        cpu = self.job.resources.limits.get("cpu")
        if self.cores_per_rank or not cpu:
            return self.cores_per_rank
        return max(1, int(quantity(cpu)) // self.job.cards)

    @property
    def placement_unbound(self) -> tuple[str, ...]:
        """The one form that Open MPI 4 and 5 both understand on any machine."""
        return ("--map-by", f"ppr:{self.job.cards}:node", "--bind-to", "none")

    @property
    def placement_4(self) -> tuple[str, ...]:
        """Bind each rank to its own cores, with upstream's flags for Open MPI 4."""
        pattern = f"ppr:{self.ranks_per_socket}:socket:PE={self.cores_per_rank}"
        return ("--bind-to", "core", "--map-by", pattern, "--rank-by", "core", "--report-bindings")

    @property
    def placement_5(self) -> tuple[str, ...]:
        """The same for Open MPI 5, which says package for socket and cannot rank by core."""
        pattern = f"ppr:{self.ranks_per_socket}:package:PE={self.cores_per_rank}"
        return ("--bind-to", "core", "--map-by", pattern, "--rank-by", "slot", "--report-bindings")

    @property
    def shares(self) -> tuple[tuple[int, int, int], ...]:
        """Fewer nodes with which a restart may go on, images of a rank in a step, and its micro-batches."""
        fewer = self.job.node_counts[:-1] if self.job.restarts.max else ()
        return tuple((count, *share) for count in fewer if (share := self.job.share(count)))

    @property
    def trainer_flags(self) -> tuple[tuple[str, ...], ...]:
        """The trainer's flags, each with its value; the three paths are the script's own."""
        flags: dict[str, Any] = self.job.train.model_dump(exclude_none=True)
        flags |= {"train_batch_size": self.job.rank_batch}
        ordered = [name for name in _UPSTREAM_ORDER if name in flags]
        ordered += [name for name in flags if name not in ordered]
        burn_in = (("--burn_in_seconds", str(self.job.burn_in)),) if self.job.burn_in else ()
        return (*(_flag(name, flags[name]) for name in ordered), *burn_in, ("--device", self.job.hardware.trainer))


def _flag(name: str, value: object) -> tuple[str, ...]:
    """Return a flag of the trainer as words: --autocast or --no-autocast for a boolean, --name value for the rest."""
    match value:
        case True:
            return (f"--{name}",)
        case False:
            return (f"--no-{name}",)
        case float():
            return (f"--{name}", f"{value:g}" if float(f"{value:g}") == value else repr(value))
        case _:
            return (f"--{name}", str(value))


def user_file(job: Job) -> dict[str, str]:
    """Return an /etc/passwd with runAsUser: ssh, ssh-keygen and sshd refuse to work for a user id that has no name."""
    user = job.run_as_user
    return {"passwd": f"root:x:0:0:root:/root:/bin/bash\nmpi:x:{user}:{user}::/tmp:/bin/bash\n"} if user else {}


def image_of(job: Job) -> str:
    """Return `image`, else the public image of the SynapseAI release with its build."""
    if job.image:
        return job.image
    assert job.release, "the rules refuse a job without an image"
    return synapse_image(job.release, job.os)


def job_metadata(job: Job) -> Metadata:
    """Return the metadata of the MPIJob, with the annotations that `status` and `logs` need."""
    run = {"mpikit/num-steps": str(job.train.num_steps), "mpikit/run": job.train.name}
    run |= {"mpikit/resume": "never"} if job.train.resume == "never" else {}
    if (exclude := job.restarts.exclude) != Exclude():
        run |= {"mpikit/exclude-auto": str(exclude.auto).lower(), "mpikit/exclude-max": str(exclude.max)}
    if isinstance(job.output, str):
        run["mpikit/output"] = job.output
    elif job.output:
        run["mpikit/output"] = f"claim {job.output.pvc} {job.output.sub_path or ''}".strip()
    return Metadata(job.job_name, job.namespace, job.own_labels | job.labels, run | job.annotations)


def task_labels(job: Job, task: Task) -> dict[str, str]:
    """Return the labels of everything that belongs to a task."""
    instance = job.job_name if task.port else task.name
    return job.own_labels | {"app.kubernetes.io/instance": instance, "app.kubernetes.io/component": task.role}


def launcher_pod(job: Job, kit_name: str, sums: str | None) -> PodContext:
    """Return the pod that starts mpirun. `sums`: the SHA-256 of SHA256SUMS that `delivery: mydir` must find."""
    check = {"MPIKIT_SCRIPTS_SHA256": sums} if sums else {}
    uid = (EnvVar(name="MPIKIT_JOB_UID", valueFrom=_JOB_UID),) if job.restarts.max else ()
    command = ("bash", f"{ScriptContext(job).folder}/run_vit.sh")
    return replace(
        _pod(job, job.launcher, "launcher", command, job.launcher_folders, kit_name),
        annotations=_checked(job.launcher, sums),
        env=(*_variables(check), *uid, *_variables(job.literal_env)),
        restart_in_place=job.restarts.in_place,
        service_account_name=job.launcher_account,
        more_fields=pod_fields(job, job.launcher, token=job.replaces_workers),
        resources=_resources(job.launcher.resources),
    )


def worker_pod(job: Job, kit_name: str, sums: str | None) -> PodContext:
    """Return a pod of the ranks. Its requests are its limits, unless `resources.requests` says otherwise."""
    script = ScriptContext(job)
    command = ("bash", f"{script.folder}/worker.sh")
    cards: dict[str, int | str] = {job.hardware.resource: job.cards} if job.hardware.resource else {}
    limits = cards | job.resources.limits
    node = (EnvVar(name="MPIKIT_NODE_NAME", valueFrom=_NODE_NAME),) if job.restarts.max else ()
    return replace(
        _pod(job, job.worker, "worker", command, job.folders, kit_name),
        annotations=_checked(job.worker, sums),
        env=(*node, *_variables(job.literal_env), *(item for item in job.env if item.value_from is not None)),
        env_from=tuple(job.env_from),
        resources={"limits": limits, "requests": limits | job.resources.requests},
        affinity=worker_affinity(job),
        more_fields=worker_spread(job) | pod_fields(job, job.worker),
        shm_size=None if job.host_ipc else job.shm_size,
        ready_port=script.ssh_port,
        host_port=script.ssh_port if job.host_network else None,
        stop_command=(*command, "stop"),
    )


def task_pod(job: Job, task: Task, kit_name: str) -> PodContext:
    """Return the pod of a Job of weights, data or TensorBoard.

    It runs where the launcher may run, with the volumes of the workers, on which `python` may lie.
    """
    script = ScriptContext(job)
    # The folder of the scripts contains no other vit/, and comes first on Python's path.
    trainer = script.folder if job.delivery == "mydir" else f"{script.folder}/{TASK_ARCHIVE}"
    place = {"PYTHONPATH": trainer, "PYTHONUNBUFFERED": "1"}
    command = tuple(literal_dollars(word) for word in (job.python, "-m", task.module, *task.inside))
    folders = (*(mount for mount in job.folders if mount.name == "mydir"), *task.folders)
    return replace(
        _pod(job, job.launcher, task.role, command, folders, kit_name),
        labels=task_labels(job, task) | job.launcher.labels,
        env=(*_variables(place), *job.env),
        env_from=tuple(job.env_from),
        resources=_resources(job.launcher.resources),
        volumes=job.worker.volumes,
        volume_mounts=job.worker.volume_mounts,
        listen_port=task.port,
        working_dir=script.folder,
        restart_policy="Never",
    )


def _pod(
    job: Job, role: Pod, container: str, command: tuple[str, ...], folders: tuple[Mount, ...], kit_name: str
) -> PodContext:
    """Return the fields of every pod of a job, and where a pod of this role can run."""
    return PodContext(
        labels=job.own_labels | role.labels,
        annotations=role.annotations,
        service_account_name=job.service_account_name,
        image_pull_secrets=job.image_pull_secrets,
        grace_seconds=ScriptContext(job).grace_seconds,
        host_ipc=job.host_ipc,
        node_selector=role.node_selector,
        tolerations=role.tolerations,
        affinity=role.affinity,
        more_fields=pod_fields(job, role),
        container=container,
        image=image_of(job),
        image_pull_policy=job.image_pull_policy,
        container_security=CONTAINER_SECURITY if job.run_as_user else None,
        command=command,
        kit_name=kit_name if job.delivery == "configmap" else None,
        passwd=bool(job.run_as_user),
        folders=folders,
        volumes=role.volumes,
        volume_mounts=role.volume_mounts,
    )


def pod_fields(job: Job, role: Pod, *, token: bool = False) -> dict[str, Any]:
    """Return more fields of a PodSpec: whether it has an API token, those of runAsUser, then the user's.

    Only a launcher that replaces failed workers calls the API server: mpirun reaches the workers by ssh.
    """
    fields: dict[str, Any] = {"automountServiceAccountToken": token} | role.pod_spec
    if job.run_as_user:
        fields["securityContext"] = _pod_security(job.run_as_user) | (role.pod_spec.get("securityContext") or {})
    return fields


def _pod_security(user: int) -> dict[str, Any]:
    """Return the securityContext of a pod whose processes have this user ID, with a group for its volumes."""
    own = {"runAsUser": user, "runAsGroup": user, "runAsNonRoot": True, "fsGroup": user}
    # A folder of a million images takes long to be given to a group, so only a volume with a wrong root is.
    return own | {"fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}


def _checked(role: Pod, sums: str | None) -> dict[str, str]:
    """Return the annotations of a pod, with the hash of the scripts that it was rendered for."""
    return ({"mpikit/scripts-sha256": sums} if sums else {}) | role.annotations


def _resources(resources: Resources) -> dict[str, dict[str, str]]:
    return {"limits": resources.limits, "requests": resources.requests}


def _variables(values: Mapping[str, str]) -> tuple[EnvVar, ...]:
    return tuple(EnvVar.model_construct(name=name, value=value, value_from=None) for name, value in values.items())
