# SPDX-License-Identifier: Apache-2.0
"""How far the training is: the trainer's progress lines, wherever they were read, as a few numbers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mpikit.text.units import duration
from mpikit.trainer import progress_values

RECENT = 5  # intervals whose median speed gives the time left, where the lines do not state it


@dataclass(frozen=True, slots=True)
class Progress:
    """The last numbers of a run; None where nothing was measured."""

    step: int
    num_steps: int | None = None
    images_per_second: float | None = None
    loss: float | None = None
    top1_percent: float | None = None
    seconds_left: float | None = None
    losses: tuple[float, ...] = ()
    """Of all lines that were read, for a curve on a terminal."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as `status -o json` prints them: without the curve."""
        return {name: value for name, value in asdict(self).items() if name != "losses"}

    def __str__(self) -> str:
        parts = [f"step {self.step}" + (f" of {self.num_steps}" if self.num_steps else "")]
        if self.images_per_second is not None:
            parts.append(f"{self.images_per_second:.0f} images/s")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3g}")
        if self.top1_percent is not None:
            parts.append(f"top-1 {self.top1_percent:.1f} %")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)


def progress_of(lines: Iterable[str], num_steps: int | None) -> Progress | None:
    """Return the progress in the lines of a log; None if they contain no progress line."""
    metrics = [values for line in lines if (values := progress_values(line)) is not None]
    if not metrics:
        return None

    def last(name: str) -> Any:
        return next((line[name] for line in reversed(metrics) if line.get(name) is not None), None)

    newest = metrics[-1]
    num_steps = newest.get("num_steps") or num_steps
    left = newest.get("seconds_left") or _seconds_left(metrics, num_steps)
    losses = tuple(_finite(line.get("loss") for line in metrics))
    speed, loss, top1 = last("images_per_second"), last("loss"), last("top1_percent")
    return Progress(newest["step"], num_steps, speed, loss, top1, left, losses)


def _finite(values: Iterable[Any]) -> Iterator[float]:
    """Yield the numbers that can be drawn; a log may contain anything."""
    for value in values:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if math.isfinite(value):
                yield float(value)


def _seconds_left(metrics: list[dict[str, Any]], num_steps: int | None) -> float | None:
    """By the median speed of the recent intervals."""
    step = metrics[-1]["step"]
    speeds = sorted([line["step_seconds"] for line in metrics if line.get("step_seconds")][-RECENT:])
    return (num_steps - step) * speeds[len(speeds) // 2] if num_steps and speeds and step < num_steps else None
