# SPDX-License-Identifier: Apache-2.0
"""python -m vit.tensorboard RUN: the metrics of a run, or of all runs in a folder, in TensorBoard. Needs no torch.

Nothing is written into the run: its metrics.jsonl is converted into a temporary folder, again and again while it grows.
"""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vit.errors import ConfigError, DataError
from vit.runtime.console import Talk
from vit.runtime.launcher import Parser, run_program
from vit.runtime.process import run_process
from vit.tensorboard.events import METRICS_FILE, EventFile, find_runs, needed

LOOK_SECONDS = 5.0  # between two looks at metrics.jsonl; TensorBoard itself looks as often


def main(argv: Sequence[str]) -> int:
    """Serve until stopped; returns the exit code."""
    return run_program("vit.tensorboard", argv, _serve)


def _parser() -> Parser:
    parser = Parser(prog="python -m vit.tensorboard", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run, or a folder of such folders")
    parser.add_argument("--port", type=int, metavar="N", help="port to listen on (default 6006, or the next free one)")
    parser.add_argument("--bind_all", action="store_true", help="listen on all addresses, not on this machine's own")
    parser.add_argument("--wait", action="store_true", help="wait for a run that has not started yet")
    return parser


def _serve(argv: Sequence[str], talk: Talk) -> None:
    flags = _parser().parse_args(argv)
    if flags.port is not None and not 0 < flags.port < 2**16:
        raise ConfigError("--port", f"{flags.port} is not a port", "give a number from 1 to 65535")
    if not flags.wait and not find_runs(flags.run):
        what = f"contains no {METRICS_FILE}, nor does a folder in it"
        raise DataError(str(flags.run), what, "give output/NAME, a run that has begun to train")
    with tempfile.TemporaryDirectory(prefix="vit-tensorboard-") as name:
        files: dict[Path, EventFile] = {}
        _update(flags.run, Path(name), files)
        talk.say(f"TensorBoard: {_open(Path(name), flags)} (Ctrl-C ends it)")
        while True:
            time.sleep(LOOK_SECONDS)
            _update(flags.run, Path(name), files)


def _update(place: Path, folder: Path, files: dict[Path, EventFile]) -> None:
    """Convert what is new in the runs that are there by now."""
    for run in find_runs(place):
        if run not in files:
            files[run] = EventFile(run, folder / run.resolve().name)
        files[run].update()


def _open(folder: Path, flags: argparse.Namespace) -> str:
    """Start TensorBoard in a thread; returns its address. Raises ConfigError."""
    program = needed("tensorboard.program")
    board = program.TensorBoard()
    words = ["--logdir", str(folder), "--reload_interval", str(round(LOOK_SECONDS)), "--load_fast", "false"]
    words += ["--bind_all"] if flags.bind_all else ["--host", "127.0.0.1"]
    words += ["--port", str(flags.port)] if flags.port else []
    board.configure(argv=["tensorboard", *words])
    try:
        return str(board.launch())
    except program.TensorBoardServerException as error:
        raise ConfigError("--port", str(error.msg).rstrip("."), "give another --port, or leave it out") from error


if __name__ == "__main__":
    run_process(main)
