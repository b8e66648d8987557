# SPDX-License-Identifier: Apache-2.0
"""The parts of a job: folders, the trainer's flags, what pods may be given, the run policy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from mpikit.config.types import (
    AbsolutePath,
    AnyText,
    Batch,
    Count,
    FolderName,
    Fraction,
    Kube,
    Mean,
    Name,
    Natural,
    Number,
    Positive,
    Quantity,
    RandAugment,
    RelativePath,
    Samples,
    Seed,
    Share,
    Std,
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
    """Size of the model; its name is that of Google's file. tiny is for tests."""
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
    """Side of the input in pixels; unset: 384, of tiny 32."""
    learning_rate: Positive | None = None
    """At its peak, after the warm-up; 0.03 is Google's at a global batch of 512."""
    autocast: bool | None = None
    """bfloat16 where it is safe."""
    save_every: Count | None = None
    """Steps between checkpoints; unset: eval_every."""
    log_every: Count | None = None
    """Steps between lines of metrics."""
    keep_checkpoints: Count | None = None
    """Last checkpoints that are kept, besides the best one."""
    eval_batch_size: Batch | None = None
    """Images of one rank in one batch of an evaluation."""
    eval_resize: Literal["squash", "crop"] | None = None
    """squash: the whole image at img_size, aspect not kept, as published; crop: its centre."""
    crop_pct: UpToOne | None = None
    """With eval_resize crop: img_size / the shorter side of the resized image."""
    mean: Mean | None = None
    """Of each channel, as the weights were trained: imagenet, inception or three numbers with commas."""
    std: Std | None = None
    """Standard deviation of each channel, likewise; both unset: as a config.json beside the weights says."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] | None = None
    """Filter that resizes images."""
    resize: Literal["antialias", "reference"] | None = None
    """reference resizes as tf.image.resize, without antialiasing; unset, only evaluations of Google's files do."""
    classes: Literal["all", "subset"] | None = None
    """With eval_only: subset evaluates a checkpoint on images of only some of its classes."""
    per_class: bool | None = None
    """Write each class's images and top-1 into evaluation.json."""
    samples: Samples | None = None
    """Validation images that the last evaluation copies into the run's evaluation/ for its report; 0 = none."""
    weight_decay: Number | None = None
    """Never on biases, norms, cls_token and pos_embed."""
    warmup_steps: Natural | None = None
    """Steps in which the learning rate grows from 0."""
    decay_type: Literal["cosine", "linear"] | None = None
    """How the learning rate falls after the warm-up; 0 at num_steps."""
    layer_decay: UpToOne | None = None
    """Learning rate of a block as a multiple of the block's above it; 1 is the same for all."""
    ema_decay: Fraction | None = None
    """What an average of the weights keeps of itself each step; the average is what is evaluated."""
    max_grad_norm: Positive | None = None
    """Gradients are clipped to this norm."""
    optimizer: Literal["sgd", "adamw"] | None = None
    """sgd as in the paper; adamw for training from scratch."""
    momentum: Fraction | None = None
    """Of sgd."""
    augment: Literal["inception", "shift", "none"] | None = None
    """Training images: inception crops and flips, shift moves by a few pixels, none leaves them."""
    aa: RandAugment | None = None
    """RandAugment as timm writes it: rand-m9-mstd0.5-inc1."""
    reprob: Share | None = None
    """Share of the training images of which a rectangle is erased."""
    remode: Literal["const", "rand", "pixel"] | None = None
    """What an erased rectangle becomes: grey, one random colour, or noise."""
    mixup: Number | None = None
    """Alpha of mixup, which blends images in pairs: micro-batches must be even."""
    label_smoothing: Fraction | None = None
    """Share of each label that is spread over all classes."""
    dropout: Fraction | None = None
    """Unset: the paper's for the model."""
    grad_checkpointing: bool | None = None
    """Less memory, a third more time."""
    seed: Seed | None = None
    """Of the first weights, the order, the augmentation and the dropout."""
    peak_tflops: Positive | None = None
    """Peak rate of one card in TFLOP/s, for mfu_percent."""
    compile: bool | None = None
    """torch.compile the model."""
    rank_timeout_seconds: Count | None = None
    """A rank that does not answer for so long ends all."""
    num_workers: Natural | None = None
    """Processes of a rank that decode images; unset: the CPUs that the pod has, shared out."""
    read_timeout_seconds: Count | None = None
    """How long one image may take to be read from storage."""
    resume: Literal["auto", "never", "must"] | None = None
    """auto goes on from the last whole checkpoint if there is one, never starts anew, must only goes on."""
    eval_only: bool | None = None
    """Evaluate the given weights and end; no step is trained."""
    synthetic_images: Count | None = None
    """Training images that the dataset synthetic invents."""
    synthetic_classes: Count | None = None
    """Classes that it invents."""


class Resources(Kube):
    """Requests and limits as in a container's `resources`."""

    limits: dict[Name, Quantity] = {}
    """What the container may use at most: cpu, memory, hugepages-2Mi, ..."""
    requests: dict[Name, Quantity] = {}
    """What a node must have free for it; unset, a worker asks for its limits."""


class EnvVar(Kube):
    """A variable as in a container's `env`: a value, or valueFrom."""

    name: Text
    """Name of the variable: letters, digits and _."""
    value: AnyText | None = None
    """Its value, as it is: $ stands for itself."""
    value_from: TreeMap | None = None
    """Where Kubernetes takes the value from: secretKeyRef, configMapKeyRef, fieldRef."""


class Pod(Kube):
    """What both kinds of pod may be given beside what the kit derives."""

    labels: dict[Name, AnyText] = {}
    """More labels of the pod."""
    annotations: dict[Name, AnyText] = {}
    """Annotations of the pod."""
    node_selector: dict[Name, AnyText] = {}
    """Labels that its node must have."""
    tolerations: list[TreeMap] = []
    """Taints that it bears, as in a PodSpec."""
    affinity: TreeMap = {}
    """As in a PodSpec."""
    volumes: list[TreeMap] = []
    """More volumes, as in a PodSpec."""
    volume_mounts: list[TreeMap] = []
    """Where those volumes are mounted, as in a container."""
    pod_spec: TreeMap = {}
    """More fields of the PodSpec, as they are: priorityClassName, securityContext, ..."""


class Launcher(Pod):
    """The pod that starts mpirun; it needs no card."""

    resources: Resources = Resources()
    """It only starts mpirun and passes output on."""
    wait_seconds: Count = 1800
    """How long to wait for every worker to answer ssh."""


class Worker(Pod):
    """The pods in which the ranks run."""

    one_per_node: bool = False
    """Never start two workers of the job on one node; false: only where other nodes are full."""


class Host(Kube):
    """Processors of a node; if set, each rank is bound to its own cores."""

    sockets: Count
    """Processors of a node."""
    cores_per_socket: Count
    """Physical cores of each."""


class SchedulingPolicy(Kube):
    """spec.runPolicy.schedulingPolicy of the MPIJob."""

    min_available: Natural | None = None
    """Pods that must fit at once; unset: all."""
    queue: Text | None = None
    """Queue of the scheduler."""
    min_resources: dict[Name, Quantity] | None = None
    """Resources that must be free at once."""
    priority_class: Text | None = None
    """Name of a PriorityClass."""
    schedule_timeout_seconds: Natural | None = None
    """How long the gang waits to be placed."""


class RunPolicy(Kube):
    """spec.runPolicy of the MPIJob."""

    clean_pod_policy: Literal["None", "Running", "All"] = "Running"
    """Running deletes the workers at the end and keeps the launcher with its log."""
    backoff_limit: Natural = 0
    """Restarts of the launcher; more than 0 deletes logs."""
    ttl_seconds_after_finished: Natural | None = None
    """The launcher and its log are deleted so long after the end; unset: never."""
    active_deadline_seconds: Natural | None = None
    """The job is ended after so long; unset: never."""
    suspend: bool | None = None
    """Make the job without starting it."""
    managed_by: Literal["kubeflow.org/mpi-operator", "kueue.x-k8s.io/multikueue"] | None = None
    """Who runs the job; unset: the MPI Operator."""
    scheduling_policy: SchedulingPolicy | None = None
    """For a gang scheduler."""


class Exclude(Kube):
    """Which nodes `generate.py repair` keeps the workers off."""

    auto: bool = False
    """Whether `repair` without `--exclude` takes the nodes that the launcher's log names."""
    max: Natural = 1
    """Nodes that a job may exclude in all."""


class Restarts(Kube):
    """How the launcher survives a lost rank or worker."""

    max: Natural = 20
    """Restarts of the ranks in one job, from the last checkpoint; 0: the first failure ends the job."""
    wait_seconds: Count = 900
    """How long a restart waits for a lost worker."""
    replace_workers: bool = False
    """Whether the launcher itself deletes a worker pod that has failed."""
    min_nodes: Natural = 0
    """With how many nodes the job goes on at least while others are lost; 0: it waits for all."""
    in_place: bool = False
    """Whether the kubelet starts a launcher that was killed anew in its pod (Kubernetes 1.35)."""
    exclude: Exclude = Exclude()
    """Nodes on which this job fails again and again."""
