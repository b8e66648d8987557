# SPDX-License-Identifier: Apache-2.0
"""python -m vit.supervise --output DIR --run NAME --max N --wait_seconds N [options] -- COMMAND..."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vit.run.phases import process_age
from vit.supervise.growth import Growth
from vit.supervise.history import RunFiles
from vit.supervise.nodes import Nodes
from vit.supervise.policy import Limits
from vit.supervise.process import Attempts
from vit.supervise.supervisor import Supervisor
from vit.supervise.watchdog.monitors import Watchdog
from vit.supervise.workers import replacer


def main(argv: Sequence[str]) -> int:
    """Run the command until it is complete, cannot succeed, or the budget is spent; return the exit code."""
    flags = _flags(argv)
    files = RunFiles(flags.output, flags.run)
    say, limits = _sayer(flags.log), Limits(flags.max, flags.wait_seconds)
    repair = f"python generate.py repair {flags.job_name}"
    nodes = Nodes(files, flags.job or None, repair, flags.exclude_auto, say) if flags.job_name else None
    supervisor = Supervisor(
        files,
        limits,
        flags.job or None,
        say,
        random.random,
        age_seconds=process_age(),
        replacer=replacer(flags.hostfile, say),
        nodes=nodes,
    )
    scale = float(os.environ.get("MPIKIT_WATCH_SCALE", "1"))  # a test shortens it
    watchdog = Watchdog(files, say, scale, nodes)
    if flags.node_counts:
        counts = [int(word) for word in flags.node_counts.split(",")]
        supervisor.growth = Growth(counts, Path(flags.hostfile), watchdog.plan, files, say, scale)
        watchdog.num_nodes = counts[-1]
    environment = os.environ | {"MPIKIT_SUPERVISED": "1", "MPIKIT_WATCH": str(watchdog.plan)}
    try:
        return supervisor.run(Attempts(supervisor.heard, watchdog), flags.command, environment)
    finally:
        watchdog.close()


def _flags(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vit.supervise", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--max", type=int, required=True)
    parser.add_argument("--wait_seconds", type=int, required=True)
    parser.add_argument("--job", default="")
    parser.add_argument("--job_name", default="")
    parser.add_argument("--exclude_auto", action="store_true")
    parser.add_argument("--node_counts", default="")
    parser.add_argument("--hostfile", default="")
    parser.add_argument("--log", type=Path)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


def _sayer(log: Path | None) -> Callable[[str], None]:
    """Return what writes a line to stderr, and with its time to the launcher's log in the output folder."""

    def say(text: str) -> None:
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        with contextlib.suppress(OSError):
            os.write(2, f"run_vit.sh: {shown}\n".encode("utf-8", "backslashreplace"))
        if log is not None and log.parent.parent.is_dir():
            with contextlib.suppress(OSError):
                log.parent.mkdir(exist_ok=True)
                with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {shown}\n")

    return say


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
