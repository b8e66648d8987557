# SPDX-License-Identifier: Apache-2.0
"""SIGTERM, SIGUSR1 and SIGHUP: a request to stop that the training loop reads."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from vit.errors import EXIT_CODES

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""mpirun forwards USR1 at once, TERM only shortly before KILL; HUP says that the terminal is gone."""


class StopRequest:
    """Remembers that a stop was asked for; before `arm` there is nothing to save and the process just ends."""

    def __init__(self) -> None:
        self.asked = False
        # SIGTERM keeps its default, which ends the process even inside a blocked rendezvous.
        # The exit code would be 138 and 129 by the others' defaults.
        for number in (signal.SIGUSR1, signal.SIGHUP):
            handle(number, _leave)

    def arm(self) -> None:
        """From now on a signal only sets `asked`."""
        for number in STOP_SIGNALS:
            handle(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def handle(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
    """Install a handler, but not for a SIGHUP that nohup had ignored."""
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_CODES["stopped"])
