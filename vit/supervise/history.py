# SPDX-License-Identifier: Apache-2.0
"""attempts.jsonl in the run's folder: what a launcher that takes over reads first, and people later."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit.supervise.endings import KINDS, OTHER, Ending
from vit.supervise.policy import Attempt

NAME = "attempts.jsonl"
MOST_EVENT_BYTES = 1 << 20
_STEP = re.compile(r"step_0*(\d{1,18})\s*")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The run's folder as the launcher sees it; without a mounted output every answer is None."""

    output: Path
    run: str

    @property
    def folder(self) -> Path:
        """output/<name>."""
        return self.output / self.run

    @property
    def mounted(self) -> bool:
        """Whether the launcher has the output folder."""
        return self.output.is_dir()

    def checkpoint_step(self) -> int | None:
        """Return the step of the last checkpoint; None if there is none to be seen."""
        with contextlib.suppress(OSError, ValueError):
            found = _STEP.fullmatch((self.folder / "last").read_text())
            return int(found[1]) if found else None
        return None

    def config_mark(self) -> tuple[int, int] | None:
        """Return what changes when a trainer opens the folder: inode and time of config.json."""
        with contextlib.suppress(OSError):
            facts = (self.folder / "config.json").stat()
            return facts.st_ino, facts.st_mtime_ns
        return None

    def add(self, record: dict[str, Any], name: str = NAME) -> None:
        """Append a line to a file; the run goes on without it if storage refuses."""
        if not self.mounted:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, (json.dumps(record) + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def records(self, job: str | None, name: str = NAME) -> list[dict[str, Any]]:
        """Return the lines of a file that launchers of this Job wrote; without a Job (`generate.py run`) none."""
        if job is None:
            return []
        with contextlib.suppress(OSError):
            lines = (self.folder / name).read_bytes().splitlines()
            return [found for line in lines if (found := _parsed(line)).get("job") == job]
        return []

    def last_events(self) -> list[dict[str, Any]]:
        """Return the last events of the trainer."""
        with contextlib.suppress(OSError), (self.folder / "events.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_EVENT_BYTES))
            return [_parsed(line) for line in file.read().splitlines()]
        return []


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the object of a line; an empty one for a line that a kill or a full disk has cut."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def attempts_of(records: Sequence[dict[str, Any]]) -> list[Attempt]:
    """Return the attempts among these lines."""
    return [_attempt(record) for record in records if type(record.get("attempt")) is int]


def _attempt(record: dict[str, Any]) -> Attempt:
    kind = KINDS.get(str(record.get("kind")), OTHER)
    code = record.get("exit_code")
    ending = Ending(kind, code if type(code) is int else 1, str(record.get("cause") or ""))
    steps = [record.get(name) for name in ("checkpoint_before", "checkpoint_after", "last_step")]
    before, after, last = (step if type(step) is int else None for step in steps)
    nodes = record.get("nodes")
    few = nodes if type(nodes) is int else None
    return Attempt(record["attempt"], ending, float(record.get("seconds") or 0), before, after, last, few)


def verdict_of(records: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
    """Return exit code and reason of the final verdict among these lines; None if there is none."""
    for record in records:
        code = record.get("verdict")
        if type(code) is int and 0 <= code <= 255:
            return code, str(record.get("why") or "")
    return None
