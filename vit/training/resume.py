# SPDX-License-Identifier: Apache-2.0
"""Where a run continues: the checkpoint, and whether it belongs to this configuration."""

from __future__ import annotations

import logging

from vit.config import Config
from vit.errors import ConfigError
from vit.run.checkpoint import Checkpoint, last_checkpoint
from vit.run.folder import RunFolder

logger = logging.getLogger(__name__)


def find_checkpoint(folder: RunFolder, config: Config) -> Checkpoint | None:
    checkpoint = last_checkpoint(folder.checkpoints)
    if checkpoint is None and config.resume == "must":
        what = f"must, but {folder.path} has no checkpoint"
        raise ConfigError("--resume", what, "check --output_dir and --name, or use --resume auto")
    if checkpoint is None and config.eval_only and config.pretrained_dir is None:
        what = f"nothing to evaluate: {folder.path} has no checkpoint and --pretrained_dir is not given"
        raise ConfigError("--eval_only", what, "give --pretrained_dir or the --name of a run")
    return checkpoint


def say_complete(checkpoint: Checkpoint, config: Config) -> None:
    top1 = checkpoint.state["top1_percent"]
    accuracy = "" if top1 is None else f", top-1 {top1:.1f} %"
    logger.info(
        "run %s is complete at step %d%s; nothing to do; use another --name or --resume never",
        config.name,
        checkpoint.step,
        accuracy,
    )
