# SPDX-License-Identifier: Apache-2.0
"""The model of a job: what the user says once, and the numbers that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from mpikit.config.sections import (
    Claim,
    EnvVar,
    Host,
    Launcher,
    Resources,
    Restarts,
    RunPolicy,
    Source,
    Train,
    Worker,
)
from mpikit.config.types import (
    LABEL_MAX,
    AnyText,
    Batch,
    Count,
    Gib,
    Image,
    Kube,
    Label,
    Name,
    PlainPath,
    Quantity,
    Span,
    Subdomain,
    Text,
    TreeMap,
)
from mpikit.devices import DEVICES, Device, release_named
from mpikit.text.units import another_name
from mpikit.trainer import PUBLISHED_NAMES

SMOKE_STEPS = 20  # enough to see data, cards, all-reduce and a checkpoint at work, a minute's charge

Placement = Literal["single", "whole", "required", "preferred", "own"]
"""One worker; cards of a whole node each; one a node; one a node where possible; as the user's podSpec says."""

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"  # terms of an affinity

FOLDERS = ("mydir", "scratch", "dataset", "pretrained", "output")  # the order of the upstream file


@dataclass(frozen=True, slots=True)
class Mount:
    """One folder of a pod: where it is mounted and what is behind it."""

    name: str
    path: str
    source: str | Claim | None
    """hostPath, claim, or None for an emptyDir."""
    host_path_type: Literal["Directory", "DirectoryOrCreate"] = "Directory"
    read_only: bool = False

    @property
    def host_path(self) -> str | None:
        """The path on the node, if that is the source."""
        return self.source if isinstance(self.source, str) else None

    @property
    def claim(self) -> Claim | None:
        """The claim, if that is the source."""
        return self.source if isinstance(self.source, Claim) else None


class Job(Kube):
    """One training job. Frozen; every other number of the manifest and of the scripts follows from it."""

    user: Label
    """Whose job it is: names, labels and, on a site that works so, namespace and paths follow from it."""
    namespace: Label | None = None
    """Namespace of the job; unset, kubectl's own context decides."""
    profile: Text | None = None
    """The file of values/ that is the base of these values, without .yaml; unset: voyager."""
    site: Text | None = None
    """Name of the site whose paths and names a profile contains."""
    device: Literal["gaudi", "gaudi2", "gaudi3", "nvidia", "cpu"]
    """Kind of accelerator."""
    nodes: Count
    """Worker pods (spec.mpiReplicaSpecs.Worker.replicas), each on its own node where possible."""
    cards: Count
    """Accelerators per node, one MPI rank each (spec.slotsPerWorker)."""
    synapse: Text | None = None
    """SynapseAI release, which picks the image on Gaudi."""
    os: Text = "ubuntu22.04"
    """Operating system of the SynapseAI image."""
    image: Image | None = None
    """Image of both pods, instead of the one that `synapse` picks."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the nodes ask the registry for the image; unset: Kubernetes' own rule."""
    image_pull_secrets: list[dict[Name, Text]] = []
    """Secrets for the registry, as in a PodSpec."""
    python: Text = "python3"
    """The interpreter in the image that runs the trainer."""
    run_as_user: Count | None = None
    """User id of all processes of both pods; unset: root, or the image's own user."""
    name: Label | None = None
    """Name of the MPIJob; unset: <user>-vit-<ranks>cards."""
    mydir: Source | None = None
    """Shared folder with the scripts and vit/, for `delivery: mydir`; mounted at /mydir if set."""
    dataset: Source | None = None
    """Folder of the dataset, mounted at /dataset."""
    pretrained: Source | None = None
    """Folder of the pretrained .npz files, mounted at /pretrained; unset: training from scratch."""
    output: Source | None = None
    """Folder of the results, mounted at /output; unset: an emptyDir, gone with the pod."""
    delivery: Literal["configmap", "mydir"] = "configmap"
    """How scripts and trainer reach the pods: in a ConfigMap, or copied by the user to `mydir`."""
    global_batch: Batch = 512
    """Images of one optimizer step over all ranks, kept when the number of nodes changes."""
    service_account_name: Subdomain | None = None
    """Service account of both pods; unset: the namespace's default."""
    host_ipc: Annotated[bool, Field(alias="hostIPC")] = False
    """Use the node's shared memory; else /dev/shm is an emptyDir of `shmSize`."""
    shm_size: Quantity = "16Gi"
    """Size of /dev/shm without hostIPC; it counts as memory of the pod."""
    output_free_gib: Annotated[Gib, Field(alias="outputFreeGiB")] = 10.0
    """Free space on output that setup.sh asks for before the job starts."""
    termination_grace_period_seconds: Count | None = None
    """Time to save a checkpoint when a pod must stop; unset, it follows from the model's size."""
    launcher_creation_policy: Literal["AtStartup", "WaitForWorkersReady"] = "AtStartup"
    """When the operator starts the launcher; it waits for the workers in either case."""
    ssh_auth_mount_path: PlainPath = "/root/.ssh"
    """Where the operator mounts the job's ssh keys."""
    labels: dict[Name, AnyText] = {}
    """More labels of the MPIJob, such as kueue.x-k8s.io/queue-name."""
    annotations: dict[Name, AnyText] = {}
    """Annotations of the MPIJob."""
    env: list[EnvVar] = []
    """Variables of the ranks, as in a container."""
    env_from: list[TreeMap] = []
    """Whole Secrets or ConfigMaps as variables of the ranks, as in a container."""
    resources: Resources = Resources()
    """Of each worker, beside its cards; requests equal limits unless they are set."""
    host: Host | None = None
    """Processors of a node; if set, each rank is bound to its own cores."""
    launcher: Launcher = Launcher()
    """The pod that starts mpirun."""
    worker: Worker = Worker()
    """The pods of the ranks."""
    burn_in: Span = 0
    """How long the devices and the network of all ranks are tested before step 1; 0: not at all."""
    restarts: Restarts = Restarts()
    """Starts of the ranks after a failure, within one job."""
    run_policy: RunPolicy = RunPolicy()
    """spec.runPolicy of the MPIJob."""
    train: Train = Train()
    """The trainer's flags."""

    _guessed: bool = PrivateAttr(default=False)

    def model_post_init(self, context: Any) -> None:
        """Note whether paths or the namespace are guesses from a login name (config/identity.py)."""
        self._guessed = bool(context and context["guessed"])

    @property
    def made_folder_type(self) -> Literal["Directory", "DirectoryOrCreate"]:
        """hostPath type of a folder that the job may create; one at a guessed path must exist."""
        return "Directory" if self._guessed else "DirectoryOrCreate"

    @property
    def hardware(self) -> Device:
        """What is known of the device."""
        return DEVICES[self.device]

    @property
    def job_name(self) -> str:
        """Name of the MPIJob: `name`, else <user>-vit-<ranks>cards."""
        return self.name or f"{self.user}-vit-{self.num_ranks}cards"

    @property
    def longest_name(self) -> int:
        """Characters that the name of the MPIJob may have, so that its last worker's name fits a DNS label."""
        return LABEL_MAX - len(f"-worker-{self.nodes - 1}")

    @property
    def another_name(self) -> str:
        """A name for the same job once more."""
        return another_name(self.job_name, self.longest_name)

    @property
    def launcher_account(self) -> str | None:
        """Service account of the launcher: that of the values, else the one that `generate.py rbac` creates."""
        own = f"{self.job_name}-launcher" if self.replaces_workers else None
        return self.service_account_name or own

    @property
    def replaces_workers(self) -> bool:
        """Whether the launcher needs a token and the rights that `generate.py rbac` prints."""
        return self.restarts.replace_workers and self.restarts.max > 0

    @property
    def own_labels(self) -> dict[str, str]:
        """Labels of everything that belongs to the job."""
        return {
            "app.kubernetes.io/name": "vit",
            "app.kubernetes.io/instance": self.job_name,
            "app.kubernetes.io/managed-by": "mpikit",
            "mpikit/user": self.user,
        }

    @property
    def num_ranks(self) -> int:
        """nodes x cards."""
        return self.nodes * self.cards

    @property
    def host_network(self) -> bool:
        """Whether the workers use the network of their node (worker.podSpec.hostNetwork)."""
        return self.worker.pod_spec.get("hostNetwork") is True

    @property
    def rank_batch(self) -> int:
        """Images of one rank in one optimizer step: train.train_batch_size, else globalBatch / ranks."""
        return self.train.train_batch_size or self.global_batch // self.num_ranks

    @property
    def real_global_batch(self) -> int:
        """rank_batch x ranks; equals globalBatch unless train.train_batch_size is set by hand."""
        return self.rank_batch * self.num_ranks

    @property
    def micro_batch(self) -> int:
        """Images that a rank holds at a time: rank_batch / gradient_accumulation_steps."""
        return self.rank_batch // self.train.gradient_accumulation_steps

    def share(self, nodes: int) -> tuple[int, int] | None:
        """Images of a rank in a step and micro-batches, with the same global batch on so many nodes.

        A micro-batch is not larger than with all nodes, as memory may not hold more. None: no even split.
        """
        images, rest = divmod(self.real_global_batch, nodes * self.cards)
        if rest or not self.micro_batch:
            return None
        even = 2 if self.train.mixup else 1  # it blends images in pairs
        for parts in range(-(-images // self.micro_batch), images + 1):
            if images % parts == 0 and images // parts % even == 0:
                return images, parts
        return None

    @property
    def node_counts(self) -> tuple[int, ...]:
        """Numbers of nodes with which a restart may go on, in ascending order; `nodes` alone without minNodes."""
        least = self.restarts.min_nodes or self.nodes
        return tuple(count for count in range(least, self.nodes + 1) if self.share(count))

    @property
    def placement(self) -> Placement:
        """What decides how many workers of the job share a node."""
        if self.nodes == 1:
            return "single"
        if self.worker.one_per_node:
            return "required"
        if self.hardware.resource and self.cards == self.hardware.most_cards:
            return "whole"
        return "own" if "topologySpreadConstraints" in self.worker.pod_spec else "preferred"

    @property
    def release(self) -> str | None:
        """The SynapseAI release that `synapse` means; None if it is unset or unknown."""
        return release_named(self.synapse) if self.synapse else None

    @property
    def folders(self) -> tuple[Mount, ...]:
        """The workers' folders, in the order of the upstream file."""
        inputs = (("mydir", self.mydir), ("dataset", self.dataset), ("pretrained", self.pretrained))
        mounts = {name: Mount(name, f"/{name}", source, read_only=True) for name, source in inputs if source}
        mounts["scratch"] = Mount("scratch", "/scratch", None)
        mounts["output"] = Mount("output", "/output", self.output, host_path_type=self.made_folder_type)
        return tuple(mounts[name] for name in FOLDERS if name in mounts)

    @property
    def launcher_folders(self) -> tuple[Mount, ...]:
        """The launcher's folders: the scripts, and output for its log."""
        wanted = ("mydir", "output") if self.delivery == "mydir" else ("output",)
        return tuple(mount for mount in self.folders if mount.name in wanted and mount.source)

    @property
    def pretrained_file_name(self) -> str | None:
        """The .npz of the model in `pretrained`, named as in Google's bucket; None trains from scratch."""
        model = self.train.model_type
        return f"{PUBLISHED_NAMES.get(model, model)}.npz" if self.pretrained else None

    @property
    def literal_env(self) -> dict[str, str]:
        """Variables whose values stand in the manifest: the device's and the user's."""
        own = {item.name: item.value or "" for item in self.env if item.value_from is None}
        return dict(self.hardware.environment) | own


def smoke_settings(job: Job) -> dict[str, str]:
    """Return the settings of a short job on one node with the same number of images a card."""
    return {
        "nodes": "1",
        "name": f"{job.user}-vit-smoke",
        "train.name": f"{job.train.name}-smoke",
        "train.num_steps": str(SMOKE_STEPS),
        "train.eval_every": str(SMOKE_STEPS),
        "train.train_batch_size": str(job.rank_batch),
        "train.warmup_steps": "5",
        "train.log_every": "5",
        "train.resume": "never",
    }
