# SPDX-License-Identifier: Apache-2.0
"""The lines of metrics.jsonl: their keys, order and meaning. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

METRICS: dict[str, str] = {
    "step": "updates of the weights done so far",
    "epoch": "passes over the training images done so far, with fraction",
    "loss": "training cross-entropy, mean over the interval's steps and over all ranks",
    "learning_rate": "rate of the interval's last update",
    "gradient_norm": "global norm before clipping, mean over the interval's steps",
    "damaged_images": "training images of the interval, over all ranks, that could not be decoded; the next was taken",
    "top1_percent": "validation images whose best guess is right, percent; null if no evaluation at this step",
    "top5_percent": "validation images whose label is among the five best guesses, percent; null like top1_percent",
    "eval_loss": "validation cross-entropy, mean over images; null if no evaluation at this step",
    "eval_images": "validation images counted; null if no evaluation at this step",
    "images_per_second": "training images of all ranks per second, evaluation and saving left out",
    "step_seconds": "mean wall time of a step, evaluation and saving left out",
    "data_seconds": "mean time of a step that rank 0 waited for images",
    "eval_seconds": "wall time of the evaluation; null if no evaluation at this step",
    "save_seconds": "wall time of the last checkpoint since the line before; null if there was none",
    "tflop_per_second": "10^12 operations a second and rank: 6 x the forward multiply-accumulates, none counted twice",
    "mfu_percent": "tflop_per_second as a share of the device's peak; null where the peak is not known",
    "peak_memory_gib": "most device memory rank 0 held so far; null where the device does not say",
}
"""One row a key, in the order of the line. A value is null when it was not measured, never 0 instead."""

MetricValue = float | int | None


def metric_line(values: Mapping[str, MetricValue]) -> str:
    """One JSON object with every key of METRICS in order, null for those absent from `values`."""
    unknown = values.keys() - METRICS.keys()
    assert not unknown, f"keys without a row in METRICS: {sorted(unknown)}"
    return json.dumps({key: values.get(key) for key in METRICS}, allow_nan=False)


def read_lines(content: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines of metrics.jsonl with their values, in order; what a crash or a stray byte damaged is left out.

    A last line without its end counts where its JSON is whole.
    """
    found = ((line, _row(line)) for line in content.split(b"\n"))
    return [(line, row) for line, row in found if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    """The values of a line; None unless it is an object with a whole number as its step."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
