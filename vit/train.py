# SPDX-License-Identifier: Apache-2.0
"""`python -m vit.train FLAGS`: reads the flags, runs, and ends the process with the contract's exit code."""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt, raise_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import os
from collections.abc import Sequence

from vit.config import Config, parse_args
from vit.run import phases
from vit.runtime.console import Reporter
from vit.runtime.launcher import is_terminal, launch
from vit.runtime.process import run_process
from vit.runtime.ranks import Ranks


def main(argv: Sequence[str]) -> int:
    """Run this rank; returns its exit code."""
    phases.start(os.environ)
    phases.show_stacks(os.environ)
    return launch(argv, parse_args, _train, terminal=is_terminal())


def _train(config: Config, ranks: Ranks, reporter: Reporter) -> None:
    from vit.training.trainer import run

    raise_on_interrupt()
    run(config, ranks, reporter)


if __name__ == "__main__":
    run_process(main)
