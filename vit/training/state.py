# SPDX-License-Identifier: Apache-2.0
"""Everything that a run consists of while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vit.config import Config
from vit.data.batches import DamageReport, Data
from vit.data.sampler import TrainOrder
from vit.run.folder import RunFolder
from vit.runtime.console import Reporter
from vit.runtime.device import Device
from vit.runtime.distributed import Group
from vit.training.ema import WeightAverage
from vit.training.meter import Meter

if TYPE_CHECKING:
    from vit.data.loader import Loader
    from vit.run.saver import Saver


@dataclass(kw_only=True)
class Session:
    """Everything a run consists of; made once by vit.training.trainer."""

    config: Config
    device: Device
    group: Group
    reporter: Reporter
    folder: RunFolder
    data: Data
    order: TrainOrder
    train_loader: Loader | None
    """None for an evaluation alone."""
    eval_loader: Loader
    identity: dict[str, Any]
    model: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    """The weights that are evaluated, where ema_decay is set."""
    meter: Meter
    saver: Saver
    board: Any = None
    step: int = 0
    best: dict[str, Any] | None = None
    """{step, top1_percent} of the best evaluation so far."""
    last_top1: float | None = None
    saved_step: int | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    """Values of the last metric line, for the live line."""
    damage: DamageReport = field(default_factory=DamageReport)
