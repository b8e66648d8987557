# SPDX-License-Identifier: Apache-2.0
"""Runs of the trainer whose stdout, stderr or both lose their reader: one process a run, forked after the imports.

Reads cases as JSON lines, {seed, lines, streams, loaders}: the reader closes `streams` after so many lines. Answers
each with a JSON line, {code, seconds, left, locked, complete}. Without `lines` the reader stays until the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import vit.training.trainer  # noqa: F401  # torch and all else, once
from vit.runtime.process import run_process
from vit.train import main

FLAGS = shlex.split(
    "--model_type tiny --img_size 16 --dataset synthetic --synthetic_images 32 --synthetic_classes 3 --device cpu "
    "--train_batch_size 4 --eval_batch_size 4 --num_steps 4 --log_every 1 --eval_every 2 --warmup_steps 1"
)
LIMIT_SECONDS = 120


def start(case: dict[str, Any], root: Path) -> tuple[int, dict[str, int]]:
    """Start the trainer in a session of its own; returns its pid and the reader's ends."""
    pipes = {"stdout": os.pipe(), "stderr": os.pipe()}
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(pipes[name][1], number)
        for ends in pipes.values():
            for end in ends:
                os.close(end)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        sys.argv = ["train", *FLAGS, "--num_workers", str(case["loaders"]), "--output_dir", str(root), "--name", "a"]
        run_process(main)
    for _, end in pipes.values():
        os.close(end)
    return pid, {name: ends[0] for name, ends in pipes.items()}


def read(readers: dict[str, int], case: dict[str, Any]) -> int:
    """Read both, close some after the wanted number of lines, read the rest; returns the number of lines."""
    lines = 0
    while readers:
        if lines >= case.get("lines", 10**9):
            for name in [name for name in case["streams"] if name in readers]:
                os.close(readers.pop(name))
            case = {}
            continue
        for end in select.select(list(readers.values()), [], [], LIMIT_SECONDS)[0]:
            one = os.read(end, 1)  # a byte at a time: the very line is what counts
            lines += one == b"\n"
            if not one:
                os.close(end)
                readers = {name: other for name, other in readers.items() if other != end}
    return lines


def left_in(session: int) -> list[int]:
    """Processes of the session that are there after 10 s."""
    end = time.monotonic() + 10
    while (found := list(_members(session))) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _members(session: int) -> Any:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                yield int(path.parent.name)


def is_locked(path: Path) -> bool:
    """Whether another process has the lock."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def run(case: dict[str, Any], root: Path) -> dict[str, Any]:
    """One case from start to end."""
    pid, readers = start(case, root)
    lines = read(readers, case)
    end = time.monotonic() + LIMIT_SECONDS
    while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1]) if ended[0] else None
    events = (root / "a/events.jsonl").read_text().splitlines()
    return {
        "code": code,
        "left": left_in(pid),
        "locked": is_locked(root / "a/lock"),
        "complete": json.loads(events[-1])["event"] == "complete",
        "metrics": len((root / "a/metrics.jsonl").read_text().splitlines()),
        "lines": lines,
    }


if __name__ == "__main__":
    for number, text in enumerate(sys.stdin):
        sys.stdout.write(json.dumps(run(json.loads(text), Path(sys.argv[1]) / str(number))) + "\n")
        sys.stdout.flush()
