# SPDX-License-Identifier: Apache-2.0
"""What the commands beside the trainer share: flags, lines on stderr, signals, and an exit code of the one table."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from vit.config import Config
from vit.errors import EXIT_CODES, ConfigError, Stopped, TrainError
from vit.runtime.console import Reporter, Talk, write
from vit.runtime.failures import import_needed, named_failures
from vit.runtime.process import raise_on_interrupt
from vit.runtime.ranks import LAZY_MODE, Ranks, read_ranks
from vit.runtime.signals import handle

END_SECONDS = 8.0  # from a stop to the end of the process; what it leaves is as after a kill


class Parser(argparse.ArgumentParser):
    """Flags whose faults come as ConfigError."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing argparse's usage text."""
        where, _, what = message.removeprefix("argument ").partition(": ")
        raise ConfigError(where if what else "flags", what or where, f"{self.prog} --help shows them")


def run_program(name: str, argv: Sequence[str], work: Callable[[Sequence[str], Talk], None]) -> int:
    """Do `work`; returns the exit code of how it ended, with its one line on stderr."""
    sys.excepthook = traceback.print_exception
    talk = Talk(sys.stderr)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        handle(number, _stop)
    raise_on_interrupt()
    try:
        with named_failures():
            work(argv, talk)
    except TrainError as error:
        talk.say(f"{name}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        talk.say(f"{name}: interrupted; the same command continues where it stopped")
        return EXIT_CODES["interrupted"]
    except Exception:  # a bug: show the traceback
        talk.say(traceback.format_exc().rstrip())
        return EXIT_CODES["internal"]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return EXIT_CODES["complete"]


def _stop(number: int, _frame: object) -> None:
    """End by an exception, or at once if that waits too long, for example for storage that hangs."""
    end = threading.Timer(END_SECONDS, os._exit, (EXIT_CODES["stopped"],))
    end.daemon = True
    end.start()
    raise Stopped(signal.Signals(number).name, "stopped as asked", "the same command continues where it stopped")


COMPILERS = ("torch._dynamo", "torch._inductor")


RANK_0_SPEAKS_SECONDS = 1.0  # mpirun ends all ranks soon after the first failure: let rank 0 report first


Work = Callable[[Config, Ranks, Reporter], None]


def launch(
    argv: Sequence[str],
    parse: Callable[[Sequence[str]], Config],
    work: Work,
    *,
    terminal: bool = False,
    program: str = "vit.train",
) -> int:
    """Read flags and ranks, then do `work`, which imports torch; returns the exit code of how it ended."""
    sys.excepthook = traceback.print_exception  # shows source lines from a zip too, unlike the default before 3.13
    try:
        _check_working_folder()
        ranks = read_ranks(os.environ)
        config = parse(argv)
    except ConfigError as error:
        return _refuse(error, program)
    piped = terminal and os.environ.get("VIT_PROGRESS") == "lines"
    reporter = Reporter(
        rank=ranks.rank, terminal=terminal and not piped, piped=piped, stdout=sys.stdout, stderr=sys.stderr
    )
    reporter.program = program
    logging.basicConfig(level=logging.INFO, handlers=[reporter], force=True)
    logging.captureWarnings(True)
    if config.device in ("auto", "hpu"):  # from SynapseAI 1.18 on the import of torch itself reads this
        os.environ.setdefault(LAZY_MODE, "1")
    try:
        return _run(work, config, ranks, reporter)
    except SystemExit:  # a library's: only the end of the run is a success
        reporter.say(traceback.format_exc().rstrip())
        return EXIT_CODES["internal"]


def _check_working_folder() -> None:
    """Raise ConfigError where the current folder was removed: relative paths, and even torch, depend on it."""
    try:
        os.getcwd()  # noqa: PTH109  # the call that fails
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise ConfigError("current folder", what, "cd to a folder that exists, then start again") from error


def is_terminal() -> bool:
    """Whether a person watches stdout; mpirun gives ranks a pseudo-terminal even in a pod, so VIT_PROGRESS decides.

    It is "terminal", or "lines" where `generate.py run` reads the lines and draws them.
    """
    wanted = os.environ.get("VIT_PROGRESS")
    if wanted is not None or "OMPI_COMM_WORLD_RANK" in os.environ:
        return wanted in ("terminal", "lines")
    return sys.stdout.isatty()


def _run(work: Work, config: Config, ranks: Ranks, reporter: Reporter) -> int:
    try:
        _with_torch(work, config, ranks, reporter)
    except TrainError as error:
        if error.shared and ranks.rank != 0:
            time.sleep(RANK_0_SPEAKS_SECONDS)
        else:
            reporter.fault(error)
        return error.exit_code
    except KeyboardInterrupt:
        reporter.say("vit.train: interrupted; the same command continues from the last checkpoint")
        return EXIT_CODES["interrupted"]
    except Exception as error:  # a bug: show the traceback, and end this rank so that mpirun ends the others
        if type(error).__module__.startswith(COMPILERS):
            return _say_uncompiled(error, reporter)
        reporter.say(traceback.format_exc().rstrip())
        return EXIT_CODES["internal"]
    return EXIT_CODES["complete"]


def _say_uncompiled(error: Exception, reporter: Reporter) -> int:
    """torch's compiler failed, most often because the image has no C++ compiler."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    fault = ConfigError("--compile", f"torch cannot compile here ({reason})", "leave --compile out, or install g++")
    reporter.fault(fault)
    return fault.exit_code


def _with_torch(work: Work, config: Config, ranks: Ranks, reporter: Reporter) -> None:
    """Import torch only now, so that a wrong flag is reported at once."""
    import_needed()
    with named_failures(config):
        work(config, ranks, reporter)


def _refuse(error: ConfigError, program: str) -> int:
    """Report what is wrong with the flags, once for all ranks."""
    if os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("RANK", "0")) == "0":
        write(sys.stderr, f"{program}: {error}\n")
    else:
        time.sleep(RANK_0_SPEAKS_SECONDS)
    return error.exit_code
