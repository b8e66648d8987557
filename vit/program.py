# SPDX-License-Identifier: Apache-2.0
"""What the commands beside the trainer share: flags, lines on stderr, signals, and an exit code of the one table."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from vit.errors import EXIT_CODES, ConfigError, Stopped, TrainError
from vit.failures import named_failures
from vit.interrupts import raise_on_interrupt
from vit.stop import handle
from vit.terminal import visible, write

REDRAW_SECONDS = 0.5
LINE_SECONDS = 60.0  # off a terminal: often enough to see that it goes on, seldom enough for a log
LINE_SHARE = 0.1
END_SECONDS = 8.0  # from a stop to the end of the process; what it leaves is as after a kill


class Parser(argparse.ArgumentParser):
    """Flags whose faults come as ConfigError."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing argparse's usage text."""
        where, _, what = message.removeprefix("argument ").partition(": ")
        raise ConfigError(where if what else "flags", what or where, f"{self.prog} --help shows them")


class Talk:
    """Sentences and progress for the person, on one stream."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.terminal = stream.isatty()
        self.width = 0
        self.began = self.told_at = clock()
        self.told_share = self.first_share = -1.0
        self.lock = threading.Lock()

    def say(self, text: str) -> None:
        """One line."""
        self._write("\r" + " " * self.width + "\r" if self.width else "", text + "\n")
        self.width = 0

    def progress(self, done: float, total: float | None, text: str) -> None:
        """How far it is: redrawn on a terminal; else a line for each tenth or minute, whichever comes first."""
        with self.lock:
            self._progress(done, total, text)

    def _progress(self, done: float, total: float | None, text: str) -> None:
        now, share = self.clock(), done / total if total else 0.0
        if self.first_share < 0:
            self.first_share, self.began = share, now
        if self.terminal:
            if now - self.told_at >= REDRAW_SECONDS or share >= 1:
                line = visible(self._line(share, now, text))
                self._write("\r", line.ljust(self.width))
                self.width, self.told_at = len(line), now
        elif now - self.told_at >= LINE_SECONDS or share - self.told_share >= LINE_SHARE:
            self._write("", self._line(share, now, text) + "\n")
            self.told_at, self.told_share = now, share

    def _line(self, share: float, now: float, text: str) -> str:
        if share <= self.first_share:
            return text
        left = (now - self.began) * (1 - share) / (share - self.first_share)
        return f"{text}, {100 * share:.0f} %, {left:.0f} s left"

    def _write(self, lead: str, text: str) -> None:
        """`lead` moves the cursor of the live line, so it goes out as it is."""
        try:
            self.stream.write(lead)
            write(self.stream, text)
        except OSError:  # nobody reads any more; the work goes on
            pass


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
        talk.say(f"{name}: interrupted; the same command goes on where it stopped")
        return EXIT_CODES["interrupted"]
    except Exception:  # a mistake of ours: show all of it
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
    raise Stopped(signal.Signals(number).name, "stopped as asked", "the same command goes on where it stopped")
