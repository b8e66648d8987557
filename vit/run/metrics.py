# SPDX-License-Identifier: Apache-2.0
"""The lines of metrics.jsonl: their keys, order and meaning, and the short form for a log. Needs no torch."""

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
    "save_seconds": "seconds that training waited for the last checkpoint of the interval; null if there was none",
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


def progress_line(values: Mapping[str, MetricValue], num_steps: int) -> str:
    """Return the line as logfmt for people: step=100/1500 loss=0.412 top1=91.2% images_per_second=239 left=6m12s.

    What was not measured is left out. The deployment kit reads these lines: mpikit/trainer.py.
    """
    step, seconds = int(values["step"] or 0), values.get("step_seconds")
    left = seconds * (num_steps - step) if seconds and step < num_steps else None
    speed, loss = values.get("images_per_second"), values.get("loss")
    parts = {
        "loss": _number(loss, ".3f"),
        "eval_loss": _number(values.get("eval_loss") if loss is None else None, ".3f"),
        "top1": _number(values.get("top1_percent"), ".1f", "%"),
        "images_per_second": _number(speed, ".0f" if speed and speed >= 10 else ".2g"),
        "damaged_images": _number(values.get("damaged_images") or None, "d"),
        "left": None if left is None else span(left),
    }
    return " ".join([f"step={step}/{num_steps}", *(f"{name}={text}" for name, text in parts.items() if text)])


def _number(value: MetricValue, form: str, unit: str = "") -> str | None:
    return None if value is None else f"{value:{form}}{unit}"


def span(seconds: float) -> str:
    """Return a time span in its two largest units: 45s, 6m12s, 3h05m, 2d04h."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hour:
        return f"{hour}h{minute:02d}m"
    return f"{minute}m{second:02d}s" if minute else f"{second}s"


def read_lines(content: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines of metrics.jsonl with their values, in order; what a crash or a stray byte damaged is left out.

    A last line without its end counts where its JSON is whole.
    """
    found = ((line, _row(line)) for line in content.split(b"\n"))
    return [(line, row) for line, row in found if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the values of a line; None unless it is an object with a whole number as its step."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
