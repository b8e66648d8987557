# SPDX-License-Identifier: Apache-2.0
"""python -m vit.evaluate: one weights file or run against the validation images; the result is one JSON object."""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt, raise_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import functools
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vit.config import Config, parse_args
from vit.errors import StorageError
from vit.run.saved_flags import saved_flags
from vit.runtime.console import Reporter
from vit.runtime.launcher import launch
from vit.runtime.process import run_process
from vit.runtime.ranks import Ranks
from vit.runtime.signals import StopRequest

if TYPE_CHECKING:
    from vit.training.evaluator import Outcome

logger = logging.getLogger(__name__)

FLAGS = (
    *("dataset", "data_path", "model_type", "gelu", "pretrained_dir", "img_size", "eval_resize", "crop_pct"),
    *("mean", "std", "interpolation", "resize"),
    *("eval_batch_size", "autocast", "classes", "per_class", "device", "compile", "num_workers", "seed"),
    *("rank_timeout_seconds", "read_timeout_seconds"),
    *("synthetic_images", "synthetic_classes"),
)
"""The trainer's flags that mean something here; pretrained_dir may also be a run's folder or one of its checkpoints."""


def main(argv: Sequence[str]) -> int:
    """Evaluate; returns the trainer's exit codes."""
    saved = saved_flags(argv, "samples")
    parse = functools.partial(parse_args, program="vit.evaluate", only=(*FLAGS, "samples"))
    return launch([*saved, *argv], parse, functools.partial(run, saved), program="vit.evaluate")


def run(saved: Sequence[str], config: Config, ranks: Ranks, reporter: Reporter) -> None:
    """Evaluate on this rank; rank 0 prints the result. Raises TrainError."""
    from vit.training.evaluator import evaluate_weights

    StopRequest()  # there is no state to save: a stop ends the process at once
    raise_on_interrupt()
    if saved:
        logger.info("flags of the run's config.json: %s", " ".join(saved))
    outcome = evaluate_weights(config, ranks)
    if ranks.rank == 0:
        reporter.metrics(_line(outcome))
        if reporter.stdout_lost is not None:  # there is no other copy of the result
            what = f"the result cannot be written ({reporter.stdout_lost})"
            raise StorageError("stdout", what, "redirect stdout to a file or to a program that reads it")


def _line(outcome: Outcome) -> str:
    config, names = outcome.config, outcome.class_names
    head = {"model_type": config.model_name, "weights": config.pretrained_dir, "img_size": config.image_size}
    head |= {"gelu": config.gelu_form, "model_classes": len(names), "data_classes": outcome.num_present}
    return json.dumps({**head, **outcome.result.as_dict(names if config.per_class else None)}, allow_nan=False)


if __name__ == "__main__":
    run_process(main)
