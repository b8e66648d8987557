# SPDX-License-Identifier: Apache-2.0
"""The trainer's flags: one frozen Config, read from the command line once. Needs no torch."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from vit.errors import ConfigError
from vit.scaling import MEAN, STD, Scaling, channels, written
from vit.variants import VARIANTS, Variant

DatasetName = Literal["imagenet1K", "imagefolder", "cifar10", "cifar100", "fashion_mnist", "synthetic"]
ModelType = Literal[
    "ViT-Ti_16",
    "ViT-S_16",
    "ViT-B_16",
    "ViT-B_32",
    "ViT-L_16",
    "ViT-L_32",
    "ViT-H_14",
    "R50-ViT-B_16",
    "tiny",
]
Gelu = Literal["tanh", "erf"]
ClassChoice = Literal["all", "subset"]
OptimizerName = Literal["sgd", "adamw"]
DecayType = Literal["cosine", "linear"]
Augment = Literal["inception", "shift", "none"]
EvalResize = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
ResizeMethod = Literal["antialias", "reference"]
EraseMode = Literal["const", "rand", "pixel"]
DeviceKind = Literal["auto", "hpu", "cuda", "cpu"]
Resume = Literal["auto", "never", "must"]

RAND_AUGMENT = re.compile(r"rand(-(m|n|p|mstd|mmax|inc)\d+(\.\d+)?)*")
MOST_SAMPLES = 24
SEED_MAX = 2**32 - 1  # numpy.random.RandomState takes 32-bit words


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Every flag of `python -m vit.train`; upstream's names where upstream has the flag."""

    name: str = "run"
    """Name of the run; its files go to output_dir/name."""
    dataset: DatasetName = "imagenet1K"
    """Kind of data: imagenet1K and imagefolder read train/<class>/* and val/<class>/*, synthetic invents images."""
    data_path: str = "/dataset"
    """Folder with train/ and val/, or with the files of cifar10, cifar100 or fashion_mnist under their own names."""
    model_type: ModelType | None = None
    """Size of the model; default that of the run whose weights are read, else ViT-B_16. tiny is for tests."""
    gelu: Gelu | None = None
    """Form of GELU; default that of the run whose weights are read, else tanh (the reference's). PyTorch ports: erf."""
    pretrained_dir: str | None = None
    """Google's .npz, a state dict (timm, Hugging Face), a run or checkpoint of this trainer; absent = none."""
    output_dir: str = "/output"
    """Folder of all runs; must be shared by all nodes."""
    num_steps: int = 20000
    """Updates of the weights in the whole run (the reference's 20,000 for ImageNet)."""
    eval_every: int = 1000
    """Steps between evaluations; the last step is always evaluated."""
    save_every: int | None = None
    """Steps between checkpoints; default eval_every. A new best evaluation, a stop and the end are saved too."""
    log_every: int = 50
    """Steps between metric lines."""
    keep_checkpoints: int = 2
    """Last checkpoints kept, besides the best one."""
    train_batch_size: int = 64
    """Images per rank and update (upstream's meaning); a micro-batch is this / gradient_accumulation_steps."""
    eval_batch_size: int = 64
    """Images per rank and evaluation batch."""
    eval_resize: EvalResize = "squash"
    """Evaluation images: squash = all of it at img_size, aspect not kept (the published protocol); crop = centre."""
    crop_pct: float = 0.875
    """With eval_resize crop: img_size / side of the resized image's shorter side, timm's crop_pct."""
    mean: str | None = None
    """Mean of each channel, 0 to 1: three numbers with commas, imagenet or inception; default like std."""
    std: str | None = None
    """Standard deviation, as mean; default the checkpoint's, a config.json's, else inception."""
    interpolation: Interpolation | None = None
    """Filter that resizes images; default the checkpoint's, a config.json's beside the weights, else bilinear."""
    resize: ResizeMethod | None = None
    """antialias as Pillow, reference = tf.image.resize; default antialias, evaluating Google's .npz reference."""
    classes: ClassChoice = "all"
    """Evaluating a run's weights: subset accepts images of only some of its classes."""
    per_class: bool = False
    """Write each class's images and top-1 into evaluation.json."""
    samples: int = 24
    """Validation images that the last evaluation keeps as small pictures in evaluation/, at most 24; 0 = none."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per update; must divide train_batch_size."""
    img_size: int | None = None
    """Side of the image in pixels; default that of the run whose weights are read, else 384, tiny 32."""
    learning_rate: float = 0.03
    """Rate after warm-up (Google's 0.03 at a global batch of 512)."""
    weight_decay: float = 0.0
    """Weight decay; never on biases, norms, cls_token and pos_embed."""
    warmup_steps: int = 500
    """Steps of linear warm-up from 0."""
    decay_type: DecayType = "cosine"
    """Schedule after warm-up; reaches its end at num_steps."""
    layer_decay: float = 1.0
    """Rate of a block as a multiple of the block's above it (arXiv:2106.08254); the head has it full. 1 = none."""
    ema_decay: float | None = None
    """Keep an average of the weights, this much of which stays each step; it is what is evaluated."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global norm."""
    optimizer: OptimizerName = "sgd"
    """sgd is the reference; adamw for training from scratch."""
    momentum: float = 0.9
    """Momentum of sgd."""
    augment: Augment = "inception"
    """Training images: inception = crop of 5-100 % of the area and flip, shift = moved by up to 1/16 side, none."""
    aa: str | None = None
    """RandAugment after --augment, as timm writes it: rand-m9-mstd0.5-inc1; absent = none."""
    reprob: float = 0.0
    """Share of the training images of which a rectangle is erased."""
    remode: EraseMode = "pixel"
    """What an erased rectangle becomes: const = grey, rand = one random colour, pixel = noise."""
    mixup: float = 0.0
    """Alpha of mixup, which blends pairs of images and their labels; 0 = none. Needs an even micro-batch."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    dropout: float | None = None
    """Dropout rate; default the reference's for the model_type (L_16, H_14 and R50 0.1, else 0)."""
    grad_checkpointing: bool = False
    """Compute each block's activations again in the backward pass: less memory, about a third more time."""
    autocast: bool = False
    """Compute in bfloat16; weights and optimizer stay float32."""
    seed: int = 0
    """Seed of initial weights, order, augmentation and dropout."""
    device: DeviceKind = "auto"
    """Accelerator; auto = hpu if there, else cuda, else cpu."""
    peak_tflops: float | None = None
    """Peak rate of one device in TFLOP/s, for mfu_percent; default a table's for bfloat16, if the device is in it."""
    compile: bool = False
    """Compile the model (torch.compile); on HPU only with PT_HPU_LAZY_MODE=0."""
    burn_in_seconds: int = 0
    """Test the devices and the network of all ranks for so long before step 1; 0: not at all."""
    rank_timeout_seconds: int = 1800
    """A rank that does not answer for so long ends all with exit code 4; longer than any save or evaluation."""
    num_workers: int | None = None
    """Processes per rank that decode images; default CPUs of the container / ranks on the node - 1, at most 16."""
    read_timeout_seconds: int = 600
    """A file that cannot be read for so long ends the run with exit code 8 and its name; needs num_workers."""
    resume: Resume = "auto"
    """auto = go on from the last whole checkpoint if any, never = start anew (old one renamed), must = go on only."""
    eval_only: bool = False
    """Evaluate the run's last checkpoint, or else pretrained_dir, and exit."""
    synthetic_images: int = 1280
    """Training images that synthetic invents; validation has a tenth of it."""
    synthetic_classes: int = 1000
    """Classes that synthetic invents."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def model_name(self) -> ModelType:
        """model_type, or ViT-B_16."""
        return self.model_type or "ViT-B_16"

    @property
    def gelu_form(self) -> Gelu:
        """gelu, or the reference's tanh."""
        return self.gelu or "tanh"

    @property
    def variant(self) -> Variant:
        """Sizes of the model."""
        return VARIANTS[self.model_name]

    @property
    def image_size(self) -> int:
        """img_size, or the variant's default."""
        return self.variant.img_size if self.img_size is None else self.img_size

    @property
    def dropout_rate(self) -> float:
        """dropout, or the reference's rate of the variant."""
        return self.variant.dropout if self.dropout is None else self.dropout

    @property
    def scaling(self) -> Scaling:
        """mean and std as numbers; inception's where they are not set."""
        return Scaling(channels(self.mean or "inception", 0), channels(self.std or "inception", 1))

    @property
    def checkpoint_every(self) -> int:
        """save_every, or eval_every."""
        return self.eval_every if self.save_every is None else self.save_every

    @property
    def micro_batch(self) -> int:
        """train_batch_size / gradient_accumulation_steps."""
        return self.train_batch_size // self.gradient_accumulation_steps

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, as given."""
        return dataclasses.asdict(self)

    def identity(self, *, world_size: int) -> dict[str, Any]:
        """Return what must not change when a run is resumed: whatever alters the weights of some step."""
        return {
            "dataset": self.dataset,
            "model_type": self.model_name,
            "gelu": self.gelu_form,
            "img_size": self.image_size,
            "global_batch": self.train_batch_size * world_size,
            "num_steps": self.num_steps,
            "optimizer": self.optimizer,
            "momentum": self.momentum if self.optimizer == "sgd" else None,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "warmup_steps": self.warmup_steps,
            "decay_type": self.decay_type,
            "max_grad_norm": self.max_grad_norm,
            "mean": written(self.scaling.mean),
            "std": written(self.scaling.std),
            "interpolation": self.interpolation or "bilinear",
            "resize": self.resize or "antialias",
            "augment": self.augment,
            "aa": self.aa,
            "reprob": self.reprob,
            "remode": self.remode if self.reprob else None,
            "mixup": self.mixup,
            "label_smoothing": self.label_smoothing,
            "layer_decay": self.layer_decay,
            "ema_decay": self.ema_decay,
            "dropout": self.dropout_rate,
            "autocast": self.autocast,
            "seed": self.seed,
        }


POSITIVE = (
    *("num_steps", "eval_every", "save_every", "log_every", "keep_checkpoints"),
    *("train_batch_size", "eval_batch_size", "gradient_accumulation_steps", "img_size"),
    *("learning_rate", "max_grad_norm", "synthetic_images", "synthetic_classes"),
    *("crop_pct", "rank_timeout_seconds", "layer_decay", "peak_tflops", "read_timeout_seconds"),
)
NOT_NEGATIVE = ("weight_decay", "warmup_steps", "num_workers", "seed", "mixup", "samples", "burn_in_seconds")


def _check(config: Config) -> None:
    """Raise ConfigError for the first field or pair of fields that cannot work."""
    for name in POSITIVE + NOT_NEGATIVE:
        value = getattr(config, name)
        if value is None:
            continue
        if not value < float("inf") or value < 0 or (value == 0 and name in POSITIVE):
            least = "more than 0" if name in POSITIVE else "0 or more"
            raise ConfigError(f"--{name}", f"{value} is not allowed", f"give a number of {least}")
    for name in ("dropout", "momentum", "label_smoothing", "ema_decay", "reprob"):
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1 and (name, value) != ("reprob", 1):
            raise ConfigError(f"--{name}", f"{value} is not allowed", "give a number from 0 to below 1")
    for name in ("crop_pct", "layer_decay"):
        value = getattr(config, name)
        if value > 1:
            raise ConfigError(f"--{name}", f"{value} is not allowed", "give a number of more than 0, up to 1")
    if config.samples > MOST_SAMPLES:
        raise ConfigError("--samples", f"{config.samples} is not allowed", f"give a number up to {MOST_SAMPLES}")
    _check_pairs(config)


def _check_pairs(config: Config) -> None:
    batch, accumulation = config.train_batch_size, config.gradient_accumulation_steps
    if batch % accumulation:
        below, above = batch // accumulation * accumulation, -(-batch // accumulation) * accumulation
        near = " or ".join(str(number) for number in (below, above) if number)
        raise ConfigError(
            "--gradient_accumulation_steps",
            f"{accumulation} does not divide --train_batch_size {batch}",
            f"set --train_batch_size to {near}",
        )
    known = config.model_type is not None or config.pretrained_dir is None  # else a checkpoint may say the model
    if known and config.image_size < config.variant.patch:
        raise ConfigError(
            "--img_size",
            f"{config.image_size} is below one patch of {config.variant.patch} px of {config.model_name}",
            f"give at least {config.variant.patch}",
        )
    if config.mixup and config.micro_batch % 2:
        what = f"blends images in pairs, and a micro-batch has {config.micro_batch}"
        raise ConfigError("--mixup", what, "make --train_batch_size / --gradient_accumulation_steps even")
    if config.aa is not None and not RAND_AUGMENT.fullmatch(config.aa):
        what = f'"{config.aa}" is not a RandAugment string as timm writes it'
        raise ConfigError("--aa", what, "give a text such as rand-m9-mstd0.5-inc1 (m, n, p, mstd, mmax, inc)")
    for name, pattern in (("mean", MEAN), ("std", STD)):
        text = getattr(config, name)
        if text is not None and not pattern.fullmatch(text):
            fix = f"give imagenet, inception or three numbers up to 1, such as --{name} 0.485,0.456,0.406"
            raise ConfigError(f"--{name}", f'"{text}" is not a {name} of three channels', fix)
    if config.resize == "reference" and config.interpolation not in (None, "bilinear"):
        what = f"reference resizes bilinear only, and --interpolation is {config.interpolation}"
        raise ConfigError("--resize", what, "use --resize antialias, or leave --interpolation out")
    if config.seed > SEED_MAX:
        raise ConfigError("--seed", f"{config.seed} is too large", f"give a number up to {SEED_MAX}")
    if not config.name or config.name in (".", "..") or "/" in config.name or config.name.startswith("-"):
        raise ConfigError(
            "--name", f'"{config.name}" is not a valid folder name', "give a name without /, such as my-run"
        )


def parse_args(argv: Sequence[str], *, program: str = "vit.train", only: Sequence[str] = ()) -> Config:
    """Config from the command line; raises ConfigError, or SystemExit(0) after --help.

    `only` names the fields that `program` has flags for, all of them if it is empty; the others keep their defaults.
    """
    names = only or [field.name for field in dataclasses.fields(Config)]
    known, unknown = build_parser(program, names).parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        flags = [f"--{name}" for name in names]
        near = difflib.get_close_matches(flag.replace("-", "_").replace("__", "--", 1), flags, n=1)
        fix = f"did you mean {near[0]}?" if near else f"see python -m {program} --help"
        whose = "the trainer" if program == "vit.train" else program
        raise ConfigError(
            flag, f"is not a flag of {whose}" if flag.startswith("-") else "is not the value of a flag", fix
        )
    return Config(**vars(known))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of argparse's usage text."""
        where, _, what = message.removeprefix("argument ").partition(": ")
        what, _, choices = what.partition(" (choose from ")
        fix = f"choose from {choices.rstrip(')')}" if choices else f"see {self.prog} --help"
        raise ConfigError(where.split(",")[0].split("/")[0], what or "is wrong", fix)


def build_parser(program: str, names: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser: a flag for each of these fields of Config, help from the docstring under the field."""
    parser = _Parser(prog=f"python -m {program}", allow_abbrev=False)
    hints, docs = get_type_hints(Config), field_docs()
    for field in dataclasses.fields(Config):
        if field.name not in names:
            continue
        text = docs[field.name].replace("%", "%%")
        _add_flag(parser, field.name, _plain_type(hints[field.name]), field.default, text)
    return parser


def _add_flag(parser: argparse.ArgumentParser, name: str, kind: Any, default: Any, text: str) -> None:
    shown = "" if default is None else f" (default {default})"
    if kind is bool:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=text)
    elif get_origin(kind) is Literal:
        parser.add_argument(f"--{name}", choices=get_args(kind), default=default, help=text + shown)
    else:
        metavar = {int: "N", float: "X", str: "TEXT"}[kind]
        parser.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=text + shown)


def _plain_type(hint: Any) -> Any:
    """`int | None` -> int; other types as they are."""
    if get_origin(hint) in (types.UnionType, Union):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def field_docs() -> dict[str, str]:
    """Return the docstring under each field of Config (works from a zip: inspect asks the loader)."""
    body = ast.parse(textwrap.dedent(inspect.getsource(Config))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, doc in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
            docs[field.target.id] = str(ast.literal_eval(doc.value))
    return docs
