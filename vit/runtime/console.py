# SPDX-License-Identifier: Apache-2.0
"""The only writer to stdout, stderr and the attempt's log: progress lines, messages, the live line."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from vit.errors import TrainError

REDRAW_SECONDS = 0.5  # a live line drawn more often costs time and is not read


class Reporter(logging.Handler):
    """Rank 0 reports; other ranks only warn, with their rank. Messages go to stderr, progress lines to stdout."""

    def __init__(self, *, rank: int, terminal: bool, stdout: TextIO, stderr: TextIO, piped: bool = False) -> None:
        super().__init__(logging.INFO if rank == 0 else logging.WARNING)
        self.rank, self.terminal, self.stdout, self.stderr = rank, terminal and rank == 0, stdout, stderr
        self.piped = piped and rank == 0
        """Whether `generate.py run` draws the live line from what this process writes."""
        self.log: TextIO | None = None
        self.program = "vit.train"
        self.told_lost: list[TextIO] = []
        self.live_width = 0
        self.drawn_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """A logging record as one line on stderr and in the log."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        self.say(text)

    def say(self, text: str) -> None:
        """Write one line on stderr."""
        self._clear()
        self._write(self.stderr, text if self.rank == 0 else f"[rank {self.rank}] {text}")

    def fault(self, error: TrainError) -> None:
        """Write the error that ends a run, as one line."""
        self.say(f"{self.program}: {error}")

    def metrics(self, line: str) -> None:
        """Write a progress line: to stdout, or to the log alone while a terminal shows a live line."""
        if self.terminal:
            self._to_log(line)
        else:
            self._write(self.stdout, line)

    def live(self, text: str) -> None:
        """Redraw the live line, at most every REDRAW_SECONDS; nothing off a terminal."""
        text, now = visible(text), time.monotonic()
        if not (self.terminal or self.piped) or now - self.drawn_at < REDRAW_SECONDS:
            return
        self.drawn_at = now
        if self.piped:  # a whole line: mpirun of Open MPI 5 keeps anything less to itself
            self.stdout.write(f"\r{text}\n")
        else:
            self.stdout.write("\r" + text.ljust(self.live_width))
            self.live_width = len(text)
        self.stdout.flush()

    def summary(self, text: str) -> None:
        """Write the last line: on stdout of a terminal, else on stderr."""
        self._clear()
        if self.terminal:
            self._write(self.stdout, text)
        else:
            self.say(text)

    @property
    def stdout_lost(self) -> str | None:
        """Why stdout cannot be written, None if it can."""
        return _lost(self.stdout)

    def open_log(self, path: Path) -> None:
        """Copy every further line to the attempt's log."""
        self.log = path.open("a", encoding="utf-8", errors="backslashreplace")  # file names may be any bytes

    def _write(self, stream: TextIO, line: str) -> None:
        write(stream, line + "\n")
        self._to_log(line)
        if self.log is not None and _lost(stream) is not None and stream not in self.told_lost:
            self.told_lost.append(stream)
            name = "stdout" if stream is self.stdout else "stderr"
            self.say(f"warning: {name} cannot be written anymore ({_lost(stream)}); its lines are in this log")

    def _to_log(self, line: str) -> None:
        if self.log is None:
            return
        try:
            self.log.write(visible(line) + "\n")
            self.log.flush()
        except OSError as error:  # a full disk: the next metric line or checkpoint ends the run with its name
            self.log = None
            self.say(f"warning: this log cannot be written anymore ({error.strerror})")

    def _clear(self) -> None:
        if self.live_width:
            self.stdout.write("\r" + " " * self.live_width + "\r")
            self.stdout.flush()
            self.live_width = 0


def _lost(stream: TextIO) -> str | None:
    """Return why a vit.runtime.process.Stream was lost; other streams raise instead."""
    reason: str | None = getattr(stream, "lost", None)
    return reason


REDRAW_SECONDS = 0.5


LINE_SECONDS = 60.0  # off a terminal: often enough to show progress, rare enough for a log


LINE_SHARE = 0.1


class Talk:
    """Messages and progress for the user, on one stream."""

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
        """Show the progress: redrawn on a terminal; else a line for each tenth or minute, whichever comes first."""
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
        except OSError:  # the reader is gone; the work continues
            pass


# C0 without tab and newline, DEL, C1, marks and overrides of direction, line and paragraph separators, lone surrogates
# (a file name that is not UTF-8), invisible tags. ECMA-48; Unicode's Bidi_Control.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)


_USERINFO = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#\"'<>]*@")  # RFC 3986, 3.2.1


HIDDEN = "<hidden>"


def visible(text: str) -> str:
    """`text` with all escaped that a terminal would obey, and without the passwords of addresses."""
    return _UNSAFE.sub(_escape, _USERINFO.sub(rf"\1{HIDDEN}@", text))


def write(stream: TextIO, text: str) -> None:
    """Write `text` and flush; what the stream's encoding lacks is escaped too."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(visible(text).encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
