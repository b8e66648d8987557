# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while modules are imported: exit code 130 at once. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal
from types import FrameType

from vit.errors import EXIT_CODES


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process until `raise_on_interrupt`: nothing is open yet, and an import hides exceptions."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it wants none
        signal.signal(signal.SIGINT, _leave)


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_CODES["interrupted"])
