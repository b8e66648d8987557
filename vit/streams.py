# SPDX-License-Identifier: Apache-2.0
"""stdout and stderr whose loss costs no run: the lines are in the run's files too. Needs no torch."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys

CLOSED = "closed before the start"
WAIT_SECONDS = 1.0


class Stream(io.TextIOBase):
    """Text onto a descriptor. After the first failed write the descriptor is /dev/null for good, and `lost` says why.

    The descriptor itself is redirected, so what libraries write in C++ has a target, too. Nothing is buffered.
    """

    def __init__(self, descriptor: int, encoding: str, lost: str | None = None, *, old: object = None) -> None:
        """Keep `old`, whose end could close the descriptor."""
        self.descriptor, self.text_encoding, self.lost, self.old = descriptor, encoding, lost, old

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute in the base
        """The encoding that Python chose for the stream."""
        return self.text_encoding

    def write(self, text: str) -> int:
        """Write all of `text`, or lose the stream."""
        data = text.encode(self.encoding, "backslashreplace")
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:  # whoever shares the pipe made it non-blocking
                select.select([], [self.descriptor], [], WAIT_SECONDS)
            except OSError as error:
                self._lose(error.strerror or "cannot be written")
                break
        return len(text)

    def _lose(self, reason: str) -> None:
        self.lost = self.lost or reason
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self.descriptor)
            if null != self.descriptor:
                os.close(null)

    def fileno(self) -> int:
        """The descriptor."""
        return self.descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self.descriptor)

    def writable(self) -> bool:
        """True."""
        return True


def keep_streams() -> None:
    """Open what is closed of descriptors 0 to 2, and put a Stream in the place of sys.stdout and sys.stderr.

    Without it, the next file that is opened becomes descriptor 1 or 2, and libraries write their messages into it.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # Python's own choice, which a parent or a library may have changed
    closed = [descriptor for descriptor in range(3) if _opened(descriptor)]
    streams = [
        Stream(descriptor, getattr(old, "encoding", None) or "utf-8", CLOSED if descriptor in closed else None, old=old)
        for descriptor, old in ((1, sys.stdout), (2, sys.stderr))
    ]
    for old in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            old.flush()
    sys.stdout, sys.stderr = streams


def _opened(descriptor: int) -> bool:
    """Give the descriptor /dev/null if it is closed; returns whether it was."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        os.set_inheritable(null, True)
        return True
    return False
