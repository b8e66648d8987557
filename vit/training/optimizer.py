# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedule and optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from vit.config import Config
from vit.runtime.device import Device

LINEAR_END = 1e-5  # the reference's linear_end, vit_jax/utils.py create_learning_rate_schedule
NO_DECAY = ("cls_token", "pos_embed")


def learning_rate(step: int, config: Config) -> float:
    """Rate of update `step`, from 0: warm-up from 0, then cosine to 0 or linear to LINEAR_END at num_steps."""
    after_warmup = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    progress = min(1.0, max(0.0, after_warmup))
    if config.decay_type == "cosine":
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    else:
        end = min(LINEAR_END, config.learning_rate)  # a rate below the reference's end must not rise to it
        rate = end + (config.learning_rate - end) * (1 - progress)
    return rate * min(1.0, step / config.warmup_steps) if config.warmup_steps else rate


def create_optimizer(model: nn.Module, config: Config, device: Device) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW; biases, norms, cls_token and pos_embed do not decay."""
    groups = parameter_groups(model, config)
    if config.optimizer == "adamw":
        return device.adamw(groups, learning_rate=config.learning_rate)
    return device.sgd(groups, learning_rate=config.learning_rate, momentum=config.momentum)


def parameter_groups(model: nn.Module, config: Config) -> list[dict[str, Any]]:
    """Parameters by weight decay and, with layer_decay, by depth; `rate_scale` multiplies a group's rate."""
    num_blocks = sum(1 for _ in model.get_submodule("blocks").children())
    groups: dict[tuple[bool, int], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and name not in NO_DECAY
        depth = 0 if config.layer_decay == 1 else depth_of(name, num_blocks)
        scale = 1.0 if config.layer_decay == 1 else config.layer_decay ** (num_blocks + 1 - depth)
        entry = {"params": [], "weight_decay": config.weight_decay if decays else 0.0, "rate_scale": scale}
        groups.setdefault((not decays, depth), entry)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def depth_of(name: str, num_blocks: int) -> int:
    """0 for what makes tokens, 1 + i for block i, the final norm with the last block, then the head: timm's layers."""
    if name.startswith("blocks."):
        return 1 + int(name.split(".")[1])
    if name in NO_DECAY or name.startswith("patch_embed."):
        return 0
    return num_blocks + 1 if name.startswith("head.") else num_blocks


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group: `rate` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_scale"]
