"""The parts of a job: folders, the trainer's flags, what pods may be given, the run policy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from mpikit.fields import (
    AbsolutePath,
    AnyText,
    Batch,
    Count,
    FolderName,
    Fraction,
    Kube,
    Name,
    Natural,
    Number,
    Positive,
    Quantity,
    RandAugment,
    RelativePath,
    Seed,
    Share,
    Strict,
    Subdomain,
    Text,
    TreeMap,
    UpToOne,
)


class Claim(Kube):
    """A folder on a PersistentVolumeClaim."""

    pvc: Subdomain
    """Name of the PersistentVolumeClaim."""
    sub_path: RelativePath | None = None
    """Folder within the claim."""


PATH, CLAIM = "path", "claim"  # the members of Source, as pydantic names them in an error


def _member(value: Any) -> str:
    return CLAIM if isinstance(value, (dict, Claim)) else PATH


Source = Annotated[Annotated[AbsolutePath, Tag(PATH)] | Annotated[Claim, Tag(CLAIM)], Discriminator(_member)]
"""A folder: a path on the node, or a claim."""

# The side of a patch in pixels, and millions of parameters with a head of 1,000 classes, by model. A test compares both
# with the trainer's own.
MEGA_PARAMETERS = {
    "ViT-Ti_16": 5.8,
    "ViT-S_16": 22.2,
    "ViT-B_16": 86.9,
    "ViT-B_32": 88.3,
    "ViT-L_16": 304.7,
    "ViT-L_32": 306.6,
    "ViT-H_14": 632.7,
    "R50-ViT-B_16": 99.0,
    "tiny": 0.2,
}
PATCHES = {
    "ViT-Ti_16": 16,
    "ViT-S_16": 16,
    "ViT-B_16": 16,
    "ViT-B_32": 32,
    "ViT-L_16": 16,
    "ViT-L_32": 32,
    "ViT-H_14": 14,
    "R50-ViT-B_16": 16,
    "tiny": 8,
}
PUBLISHED_NAMES = {"R50-ViT-B_16": "R50+ViT-B_16"}
"""Files in Google's bucket that are not named as their model."""


class Train(Strict):
    """Flags of the trainer, spelled as the trainer spells them; a flag that is not set keeps the trainer's default."""

    name: FolderName = "vit"
    """Name of the run: its results lie in output/<name>. It does not depend on the number of nodes."""
    dataset: Literal["imagenet1K", "imagefolder", "cifar10", "cifar100", "fashion_mnist", "synthetic"] = "imagenet1K"
    """Kind of the dataset; `dataset` at the top level is its path."""
    model_type: Literal[
        "ViT-Ti_16",
        "ViT-S_16",
        "ViT-B_16",
        "ViT-B_32",
        "ViT-L_16",
        "ViT-L_32",
        "ViT-H_14",
        "R50-ViT-B_16",
        "tiny",
    ] = "ViT-B_16"
    gelu: Literal["tanh", "erf"] | None = None
    """erf for weights that a PyTorch port trained."""
    num_steps: Count = 20000
    """Optimizer steps of the whole run."""
    eval_every: Count | None = None
    """Steps between evaluations."""
    train_batch_size: Batch | None = None
    """Images of one rank in one optimizer step. Unset: globalBatch / (nodes x cards)."""
    gradient_accumulation_steps: Batch = 1
    """Micro-batches of one optimizer step: a rank holds train_batch_size / this many images at a time."""
    img_size: Count | None = None
    learning_rate: Positive | None = None
    autocast: bool | None = None
    """bfloat16 where it is safe."""
    save_every: Count | None = None
    log_every: Count | None = None
    keep_checkpoints: Count | None = None
    eval_batch_size: Batch | None = None
    eval_resize: Literal["squash", "crop"] | None = None
    crop_pct: UpToOne | None = None
    per_class: bool | None = None
    weight_decay: Number | None = None
    warmup_steps: Natural | None = None
    decay_type: Literal["cosine", "linear"] | None = None
    layer_decay: UpToOne | None = None
    ema_decay: Fraction | None = None
    max_grad_norm: Positive | None = None
    optimizer: Literal["sgd", "adamw"] | None = None
    momentum: Fraction | None = None
    augment: Literal["inception", "shift", "none"] | None = None
    aa: RandAugment | None = None
    """RandAugment as timm writes it: rand-m9-mstd0.5-inc1."""
    reprob: Share | None = None
    remode: Literal["const", "rand", "pixel"] | None = None
    mixup: Number | None = None
    """Alpha of mixup, which blends images in pairs: micro-batches must be even."""
    label_smoothing: Fraction | None = None
    dropout: Fraction | None = None
    grad_checkpointing: bool | None = None
    """Less memory, a third more time."""
    seed: Seed | None = None
    peak_tflops: Positive | None = None
    compile: bool | None = None
    rank_timeout_seconds: Count | None = None
    num_workers: Natural | None = None
    read_timeout_seconds: Count | None = None
    resume: Literal["auto", "never", "must"] | None = None
    eval_only: bool | None = None
    """Evaluate the given weights and end; no step is trained."""
    synthetic_images: Count | None = None
    synthetic_classes: Count | None = None


class Resources(Kube):
    """Requests and limits as in a container's `resources`."""

    limits: dict[Name, Quantity] = {}
    requests: dict[Name, Quantity] = {}


class EnvVar(Kube):
    """A variable as in a container's `env`: a value, or valueFrom."""

    name: Text
    value: AnyText | None = None
    value_from: TreeMap | None = None


class Pod(Kube):
    """What both kinds of pod may be given beside what the kit derives."""

    labels: dict[Name, AnyText] = {}
    annotations: dict[Name, AnyText] = {}
    node_selector: dict[Name, AnyText] = {}
    tolerations: list[TreeMap] = []
    affinity: TreeMap = {}
    volumes: list[TreeMap] = []
    volume_mounts: list[TreeMap] = []
    pod_spec: TreeMap = {}
    """More fields of the PodSpec, as they are: priorityClassName, securityContext, ..."""


class Launcher(Pod):
    """The pod that starts mpirun; it needs no card."""

    resources: Resources = Resources()
    wait_seconds: Count = 1800
    """How long to wait for every worker to answer ssh."""


class Worker(Pod):
    """The pods in which the ranks run, one a node."""


class Host(Kube):
    """Processors of a node; known, they let each rank be bound to cores of its own."""

    sockets: Count
    cores_per_socket: Count


class SchedulingPolicy(Kube):
    """spec.runPolicy.schedulingPolicy of the MPIJob."""

    min_available: Natural | None = None
    queue: Text | None = None
    min_resources: dict[Name, Quantity] | None = None
    priority_class: Text | None = None
    schedule_timeout_seconds: Natural | None = None


class RunPolicy(Kube):
    """spec.runPolicy of the MPIJob."""

    clean_pod_policy: Literal["None", "Running", "All"] = "Running"
    backoff_limit: Natural = 0
    ttl_seconds_after_finished: Natural | None = None
    active_deadline_seconds: Natural | None = None
    suspend: bool | None = None
    managed_by: Literal["kubeflow.org/mpi-operator", "kueue.x-k8s.io/multikueue"] | None = None
    scheduling_policy: SchedulingPolicy | None = None
