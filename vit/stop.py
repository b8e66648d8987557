"""SIGTERM and SIGUSR1: a wish to stop that the training loop reads."""

from __future__ import annotations

import os
import signal
from types import FrameType

from vit.errors import EXIT_CODES

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # mpirun forwards USR1 at once, TERM only shortly before KILL


class StopRequest:
    """Remembers that a stop was asked for; before `arm` there is nothing to save and the process just ends."""

    def __init__(self) -> None:
        self.asked = False
        # SIGTERM keeps its default, which ends the process even inside a blocked rendezvous; USR1's default gives 138.
        signal.signal(signal.SIGUSR1, _leave)

    def arm(self) -> None:
        """From now on a signal only sets `asked`."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_CODES["stopped"])
