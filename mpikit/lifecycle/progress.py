# SPDX-License-Identifier: Apache-2.0
"""How far the training is: the trainer's metric lines, wherever they were read, as a few numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mpikit.text.units import duration

RECENT = 5  # intervals whose median speed tells the time that is left


@dataclass(frozen=True, slots=True)
class Progress:
    """The last numbers of a run; None where nothing was measured."""

    step: int
    num_steps: int | None = None
    images_per_second: float | None = None
    loss: float | None = None
    top1_percent: float | None = None
    seconds_left: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields as `status -o json` prints them."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"step {self.step}" + (f" of {self.num_steps}" if self.num_steps else "")]
        if self.images_per_second is not None:
            parts.append(f"{self.images_per_second:.0f} images/s")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3g}")
        if self.top1_percent is not None:
            parts.append(f"top-1 {self.top1_percent:.2f} %")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)


def metric_lines(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The metric objects among the lines of a log."""
    for line in lines:
        if not line.startswith("{"):
            continue
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int) and "images_per_second" in found:
            yield found


def progress_of(lines: Iterable[str], num_steps: int | None) -> Progress | None:
    """The progress that a log's lines tell; None if no metric line is among them."""
    metrics = list(metric_lines(lines))
    if not metrics:
        return None

    def last(name: str) -> Any:
        return next((line[name] for line in reversed(metrics) if line.get(name) is not None), None)

    step = metrics[-1]["step"]
    speeds = sorted([line["step_seconds"] for line in metrics if line.get("step_seconds")][-RECENT:])
    left = (num_steps - step) * speeds[len(speeds) // 2] if num_steps and speeds and step < num_steps else None
    return Progress(step, num_steps, last("images_per_second"), last("loss"), last("top1_percent"), left)
