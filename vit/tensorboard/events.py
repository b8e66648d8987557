# SPDX-License-Identifier: Apache-2.0
"""metrics.jsonl of a run -> TensorBoard's event files, also while the run goes on. Needs tensorboard and no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from vit.errors import ConfigError
from vit.files import named_storage
from vit.packages import optional_package
from vit.run.metrics import METRICS, read_lines

METRICS_FILE = "metrics.jsonl"
SECONDS = ("eval_seconds", "save_seconds")  # of a line, beside its steps
Row = Mapping[str, Any]


def find_runs(place: Path) -> list[Path]:
    """Return the run at this folder, or else the runs directly below it, by name."""
    with named_storage(place):
        if (place / METRICS_FILE).is_file():
            return [place]
        return sorted(path.parent for path in place.glob(f"*/{METRICS_FILE}") if path.is_file())


class EventFile:
    """The event file of one run."""

    def __init__(self, run: Path, folder: Path) -> None:
        """Open a file in `folder`. Raises ConfigError without tensorboard."""
        self.source = run / METRICS_FILE
        self.stamp: tuple[int, ...] = ()
        self.written: list[tuple[int, float]] = []  # (step, time) of each line
        self.protocol = needed("tensorboard.compat.proto.event_pb2")
        self.writer = needed("tensorboard.summary.writer.event_file_writer").EventFileWriter(str(folder))

    def update(self) -> int:
        """Write what is new in metrics.jsonl; return how many lines there were. Raises StorageError."""
        with named_storage(self.source), contextlib.suppress(FileNotFoundError):  # a run that was just set aside
            found = self.source.stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            if stamp != self.stamp:
                rows = [row for _, row in read_lines(self.source.read_bytes())]
                self.stamp = stamp
                return self._add(rows, found.st_mtime)
        return 0

    def _add(self, rows: Sequence[Row], end: float) -> int:
        """Write the lines after those that were there before; a run that resumed may have dropped some of these."""
        pairs = zip(self.written, rows, strict=False)
        kept = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1]["step"], pairs))
        if kept < len(self.written):
            self._forget(kept)
        new = rows[kept:]
        for row, moment in zip(new, self._moments(new, end), strict=True):
            self._write(row, moment)
        self.writer.flush()
        return len(new)

    def _forget(self, kept: int) -> None:
        """Have TensorBoard drop all lines but the first ones."""
        step, moment = self.written[kept]
        start = self.protocol.SessionLog(status=self.protocol.SessionLog.START)
        self.writer.add_event(self.protocol.Event(wall_time=moment, step=step, session_log=start))
        del self.written[kept:]

    def _moments(self, rows: Sequence[Row], end: float) -> Iterator[float]:
        """When each line was written: lines have no clock, but say how long their steps took. The last one is at `end`.

        After the first time, a line follows on the one before it.
        """
        last_step, last = self.written[-1] if self.written else (0, None)
        steps = [last_step, *(row["step"] for row in rows)]
        lengths = [seconds_of(row, row["step"] - before) for before, row in zip(steps, rows, strict=False)]
        moment = end - sum(lengths) if last is None else last
        for row, length in zip(rows, lengths, strict=True):
            moment += length
            self.written.append((row["step"], moment))
            yield moment

    def _write(self, row: Row, moment: float) -> None:
        """One event with each value of the line that was measured."""
        event = self.protocol.Event(wall_time=moment, step=row["step"])
        for key in METRICS:
            value = row.get(key)
            if key != "step" and isinstance(value, (int, float)):
                event.summary.value.add(tag=key, simple_value=float(value))
        self.writer.add_event(event)


def seconds_of(row: Row, num_steps: int) -> float:
    """Return how long the steps of a line took, with its evaluation and checkpoint."""
    parts = [number(row, "step_seconds") * num_steps, *(number(row, key) for key in SECONDS)]
    return sum(parts)


def number(row: Row, key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0


def needed(name: str) -> Any:
    """Return a module of tensorboard. Raises ConfigError without it."""
    module = optional_package(name, "tensorboard")
    if module is None:
        what = "this Python has no tensorboard that works"
        raise ConfigError("python", what, "pip install tensorboard, or use an image that has it")
    return module
