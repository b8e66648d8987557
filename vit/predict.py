# SPDX-License-Identifier: Apache-2.0
"""python -m vit.predict --pretrained_dir RUN: the guess for each validation image, one JSON object a line.

Flags are those of vit.evaluate. One process; for people, and never in an MPIJob's zip.
"""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt, raise_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from vit.config import Config, parse_args
from vit.evaluate import FLAGS
from vit.run.saved_flags import saved_flags
from vit.runtime.console import Reporter
from vit.runtime.launcher import launch
from vit.runtime.process import run_process
from vit.runtime.ranks import Ranks
from vit.runtime.signals import StopRequest


def main(argv: Sequence[str]) -> int:
    """Predict; returns the trainer's exit codes."""
    parse = functools.partial(parse_args, program="vit.predict", only=FLAGS)
    return launch([*saved_flags(argv), *argv], parse, run, program="vit.predict")


def run(config: Config, ranks: Ranks, reporter: Reporter) -> None:
    """Print a line for each validation image that can be decoded. Raises TrainError."""
    StopRequest()  # there is no state to save: a stop ends the process at once
    raise_on_interrupt()
    for row in predictions(config, ranks):
        reporter.metrics(json.dumps(row))


def predictions(given: Config, ranks: Ranks) -> Iterator[dict[str, Any]]:
    """{image, class, prediction, probability} of each validation image, in order. Raises TrainError."""
    import torch

    from vit.data.batches import open_data
    from vit.data.sampler import EvalBatches
    from vit.run.own import with_classes_of
    from vit.runtime.devices import open_device
    from vit.training.evaluation import normalise
    from vit.training.evaluator import settle_weights
    from vit.training.setup import build_model, fill_from_file

    device = open_device(given.device, ranks)
    config, own, _ = settle_weights(given)
    data = open_data(config, with_train=False)
    if own is not None:
        data, _ = with_classes_of(own, data, config.classes)
    model = build_model(config, device, data)
    fill_from_file(model, config, own, data.class_names, whole=True)
    model.to(device.torch_device).eval()
    source = data.val.source
    for keys in EvalBatches(num_images=len(source), rank=0, world_size=1, batch_size=config.eval_batch_size):
        batch = data.val.batch(keys)
        with torch.no_grad(), device.autocast(config.autocast):
            logits = model(normalise(device.upload(batch.images), config.scaling))
        shares, guesses = logits.float().softmax(dim=-1).max(dim=-1)
        for (_, index), label, guess, share in zip(
            keys, batch.labels.tolist(), guesses.tolist(), shares.tolist(), strict=True
        ):
            if label >= 0:  # padding and damaged images have none
                names = {"class": data.class_names[label], "prediction": data.class_names[guess]}
                yield {"image": source.where(index), **names, "probability": round(share, 4)}


if __name__ == "__main__":
    run_process(main)
