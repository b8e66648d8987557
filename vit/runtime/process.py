# SPDX-License-Identifier: Apache-2.0
"""A process of the trainer from its first line to its end. Needs no torch."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from vit.errors import EXIT_CODES
from vit.packages import reason_of
from vit.runtime.console import write

logger = logging.getLogger(__name__)


def run_process(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run `main` on the command line's flags and end the process with its exit code, whatever it raises."""
    code = EXIT_CODES["internal"]
    try:
        keep_streams()
        threading.excepthook = warn_of_thread
        code = main(sys.argv[1:])
    except SystemExit as error:  # --help
        code = error.code if isinstance(error.code, int) else EXIT_CODES["internal"]
        code = EXIT_CODES["complete"] if error.code is None else code
    except KeyboardInterrupt:
        code = EXIT_CODES["interrupted"]
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def warn_of_thread(failure: threading.ExceptHookArgs) -> None:
    """Write one warning instead of a traceback; a thread of a library fails if, for example, its folder was deleted."""
    error = failure.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    reason = reason_of(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        reason = f"{place}{error.strerror}"
    text = f"a background thread failed ({reason}); the program continues without it"
    if logging.root.handlers:
        logger.warning("%s", text)
    else:  # before the flags are read, and in programs without a reporter
        write(sys.stderr, f"warning: {text}\n")


def leave(code: int) -> NoReturn:
    """End the process now, with no clean-up: nothing may wait for other ranks, loaders, threads or exit handlers.

    Nor after success: freeing a gloo process group can wait for ever for its own thread, which waits for the
    interpreter's lock (seen with torch 2.2.2, one run of about twenty).
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for child in multiprocessing.active_children():
            child.kill()
    finally:
        os._exit(code)


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
        """Return the descriptor."""
        return self.descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
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
