# SPDX-License-Identifier: Apache-2.0
"""output_dir/name: lock, attempt logs, metrics.jsonl, events.jsonl, last and best. Only global rank 0 opens it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vit.errors import StorageError
from vit.files import named_storage, write_atomic
from vit.run import phases
from vit.run.lock import FolderLock
from vit.run.metrics import read_lines

logger = logging.getLogger(__name__)


class RunFolder:
    """The files of one run besides its checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.lock: FolderLock | None = None
        self._held = False
        self._appending = threading.Lock()  # checkpoints are written by a thread of their own

    def acquire(self) -> None:
        """Make the folder and hold its lock until `release` or the process's end. Raises LockedError, StorageError."""
        self.release()
        with named_storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.lock = FolderLock(self.path)

    def hold(self) -> None:
        """Keep the lock until the end of the process: a thread still writes."""
        self._held = True

    def release(self) -> None:
        """Let the next run have the folder."""
        if self.lock is not None and not self._held:
            self.lock.release()
            self.lock = None

    def verify(self) -> None:
        """Raise StorageError or LockedError unless this still is the folder that the run opened and holds."""
        if self.lock is not None:
            self.lock.verify()

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Write or remove a file of the folder that the run opened, never of another. Raises StorageError."""
        self._verify_place()
        try:
            with named_storage(self.path / name):
                yield
        except StorageError:
            self._verify_place()  # a folder that was lost meanwhile is the better reason
            raise

    def _verify_place(self) -> None:
        if self.lock is not None:
            self.lock.verify_place()

    def set_aside(self) -> Path | None:
        """Rename a folder that contains a run to <name>.previous-<k> and take a fresh one; None if there was none."""
        if not (self.path / "config.json").exists():
            return None
        with named_storage(self.path):
            number = 1
            while (old := self.path.with_name(f"{self.path.name}.previous-{number}")).exists():
                number += 1
            self.path.rename(old)
        if self.lock is not None:
            self.lock.follow(old)
        self.acquire()
        return old

    def next_log(self) -> Path:
        """Path of this attempt's log: logs/001.log, 002.log, ..."""
        logs = self.path / "logs"
        with named_storage(logs):
            logs.mkdir(exist_ok=True)
            number = max((int(log.stem) for log in logs.glob("*.log") if log.stem.isdigit()), default=0) + 1
        return logs / f"{number:03d}.log"

    def make_checkpoints(self) -> None:
        """Create checkpoints/ in the folder that the run opened. Raises StorageError."""
        with self.writing("checkpoints"):
            if self.lock is None:
                self.checkpoints.mkdir(exist_ok=True)
            else:
                self.lock.make_folder("checkpoints")

    def write_config(self, config: dict[str, Any]) -> None:
        """config.json: the flags of this attempt and the numbers derived from them."""
        with self.writing("config.json"):
            write_atomic(self.path / "config.json", json.dumps(config, indent=1) + "\n")

    def write_evaluation(self, result: dict[str, Any]) -> None:
        """evaluation.json: the last evaluation."""
        with self.writing("evaluation.json"):
            write_atomic(self.path / "evaluation.json", json.dumps(result, indent=1, allow_nan=False) + "\n")

    def add_metrics(self, line: str) -> None:
        """Append one line to metrics.jsonl."""
        self._append("metrics.jsonl", line)

    def add_event(self, event: str, step: int | None, **details: Any) -> None:
        """Append {time, event, step, ...} to events.jsonl."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._append("events.jsonl", json.dumps({"time": moment, "event": event, "step": step, **details}))

    def add_phases(self, step: int | None) -> None:
        """Append the event "phases": what this rank's time went into since its start."""
        if record := phases.record():
            self.add_event("phases", step, **record)

    def trim_metrics(self, step: int) -> None:
        """Drop metric lines after `step` and a half-written last one, so that a resumed run writes them once."""
        path = self.path / "metrics.jsonl"
        with named_storage(path):
            content = path.read_bytes() if path.exists() else b""
            kept = b"".join(line + b"\n" for line, row in read_lines(content) if row["step"] <= step)
            if kept != content:
                write_atomic(path, kept.decode("utf-8"))

    def has_evaluation(self, step: int) -> bool:
        """Return whether metrics.jsonl has a line of this step with an evaluation."""
        path = self.path / "metrics.jsonl"
        with named_storage(path):
            content = path.read_bytes() if path.exists() else b""
        rows = [row for _, row in read_lines(content)]
        return any(row["step"] == step and row.get("top1_percent") is not None for row in rows)

    def sync_metrics(self) -> None:
        """fsync metrics.jsonl: a checkpoint must not outlive the lines before it."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            with named_storage(path), path.open("a") as file:
                os.fsync(file.fileno())

    def point(self, name: str, target: str) -> None:
        """Write the one-line file `last` or `best`."""
        with self.writing(name):
            write_atomic(self.path / name, target + "\n")

    def _append(self, name: str, line: str) -> None:
        with self._appending, self.writing(name), (self.path / name).open("a+b") as file:
            start = b"" if _ends_a_line(file) else b"\n"  # a kill may have cut off the last one
            file.write(start + line.encode() + b"\n")


def _ends_a_line(file: BinaryIO) -> bool:
    """Return whether the file is empty or ends with a line's end."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return True
    file.seek(end - 1)
    return file.read(1) == b"\n"
