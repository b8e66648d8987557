# SPDX-License-Identifier: Apache-2.0
"""Runs with random weights: a folder as the trainer leaves it, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vit.config import Config
from vit.model.transformer import VisionTransformer, create_model
from vit.run.checkpoint import save_checkpoint

CLASSES = ["001.Daisy", "rose <script>", "tulip | `x`", "été", "5", "sun_flower", "7"]


def random_model(config: Config, classes: int) -> VisionTransformer:
    """A model all of whose weights differ, also those that start at zero or one."""
    torch.manual_seed(1)
    model = create_model(config.model_name, config.image_size, classes, dropout=0.0, gelu=config.gelu_form)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    torch.nn.init.normal_(model.cls_token, std=0.2)
    return model.eval()


def write_run(root: Path, *, step: int = 20, class_names: list[str] | None = None, **flags: Any) -> Path:
    """A run with one checkpoint, its best, with these flags."""
    names = CLASSES if class_names is None else class_names
    config = Config(output_dir=str(root), dataset="imagefolder", **flags)
    identity = {**config.identity(world_size=2), "num_classes": len(names), "train_images": 5040}
    state = {"step": step, "epoch": 1.5, "best": {"step": step, "top1_percent": 91.25}, "top1_percent": 91.25}
    state |= {"class_names": names, "identity": identity, "config": config.as_dict()}
    run = root / config.name
    (run / "checkpoints").mkdir(parents=True)
    model = random_model(config, len(names)).state_dict()
    tensors = {"model": model, "optimizer": {}}
    if config.ema_decay is not None:
        tensors["ema"] = {key: 0.9 * tensor for key, tensor in model.items()}
    (run / "best").write_text(save_checkpoint(run / "checkpoints", tensors, state).name)
    (run / "last").write_text((run / "best").read_text())
    (run / "config.json").write_text(json.dumps({**config.as_dict(), "val_images": 1020}))
    row = {"step": step, "top1_percent": 91.25, "top5_percent": 99.5, "eval_loss": 0.3125, "eval_images": 1020}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return run
