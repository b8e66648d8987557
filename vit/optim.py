"""Learning-rate schedule and optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from vit.config import Config
from vit.device import Device

LINEAR_END = 1e-5  # the reference's linear_end, vit_jax/utils.py create_learning_rate_schedule
NO_DECAY = ("cls_token", "pos_embed")


def learning_rate(step: int, config: Config) -> float:
    """Rate of update `step`, from 0: warm-up from 0, then cosine to 0 or linear to LINEAR_END at num_steps."""
    after_warmup = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    progress = min(1.0, max(0.0, after_warmup))
    if config.decay_type == "cosine":
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    else:
        rate = LINEAR_END + (config.learning_rate - LINEAR_END) * (1 - progress)
    return rate * min(1.0, step / config.warmup_steps) if config.warmup_steps else rate


def create_optimizer(model: nn.Module, config: Config, device: Device) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW; biases, norms, cls_token and pos_embed do not decay."""
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim == 1 or name in NO_DECAY else decay).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return device.sgd(groups, learning_rate=config.learning_rate, momentum=config.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
