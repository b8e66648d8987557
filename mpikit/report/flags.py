# SPDX-License-Identifier: Apache-2.0
"""The trainer's flags in a run's config.json: which differ from the defaults, and the command line that they make."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

DEFAULTS: dict[str, Any] = {
    "name": "run",
    "dataset": "imagenet1K",
    "data_path": "/dataset",
    "model_type": None,
    "gelu": None,
    "pretrained_dir": None,
    "output_dir": "/output",
    "num_steps": 20000,
    "eval_every": 1000,
    "save_every": None,
    "log_every": 50,
    "keep_checkpoints": 2,
    "train_batch_size": 64,
    "eval_batch_size": 64,
    "eval_resize": "squash",
    "crop_pct": 0.875,
    "mean": None,
    "std": None,
    "interpolation": None,
    "resize": None,
    "classes": "all",
    "per_class": False,
    "samples": 24,
    "gradient_accumulation_steps": 1,
    "img_size": None,
    "learning_rate": 0.03,
    "weight_decay": 0.0,
    "warmup_steps": 500,
    "decay_type": "cosine",
    "layer_decay": 1.0,
    "ema_decay": None,
    "max_grad_norm": 1.0,
    "optimizer": "sgd",
    "momentum": 0.9,
    "augment": "inception",
    "aa": None,
    "reprob": 0.0,
    "remode": "pixel",
    "mixup": 0.0,
    "label_smoothing": 0.0,
    "dropout": None,
    "grad_checkpointing": False,
    "autocast": False,
    "seed": 0,
    "device": "auto",
    "peak_tflops": None,
    "compile": False,
    "burn_in_seconds": 0,
    "rank_timeout_seconds": 1800,
    "num_workers": None,
    "read_timeout_seconds": 600,
    "resume": "auto",
    "eval_only": False,
    "synthetic_images": 1280,
    "synthetic_classes": 1000,
}
"""Of vit/config.py; a test compares both."""


def changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that are not at their defaults."""
    return {name: config[name] for name in DEFAULTS if name in config and config[name] != DEFAULTS[name]}


def command(config: Mapping[str, Any]) -> str:
    """Return the command line of the trainer that has these flags."""
    words = [_word(name, value) for name, value in changed(config).items() if value is not None]
    return shlex.join(["python", "-m", "vit.train", *words])


def _word(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={shown(value)}"


def shown(value: Any) -> str:
    """Return a value as it is typed."""
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)
