# SPDX-License-Identifier: Apache-2.0
"""The one place that writes to stdout, stderr and the attempt's log: metric lines, sentences, the live line."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TextIO

from vit.errors import TrainError
from vit.terminal import visible, write

REDRAW_SECONDS = 0.5  # a live line drawn more often costs time and nobody reads it


class Reporter(logging.Handler):
    """Rank 0 speaks; other ranks only warn, with their rank. Talk goes to stderr, metric lines to stdout."""

    def __init__(self, *, rank: int, terminal: bool, stdout: TextIO, stderr: TextIO) -> None:
        super().__init__(logging.INFO if rank == 0 else logging.WARNING)
        self.rank, self.terminal, self.stdout, self.stderr = rank, terminal and rank == 0, stdout, stderr
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
        """One line of talk."""
        self._clear()
        self._write(self.stderr, text if self.rank == 0 else f"[rank {self.rank}] {text}")

    def fault(self, error: TrainError) -> None:
        """The one line that ends a run."""
        self.say(f"{self.program}: {error}")

    def metrics(self, line: str) -> None:
        """A metric line: data on stdout, or in the log alone while a live line stands on the terminal."""
        if self.terminal:
            self._to_log(line)
        else:
            self._write(self.stdout, line)

    def live(self, text: str) -> None:
        """Redraw the live line, at most every REDRAW_SECONDS; nothing off a terminal."""
        text, now = visible(text), time.monotonic()
        if not self.terminal or now - self.drawn_at < REDRAW_SECONDS:
            return
        self.stdout.write("\r" + text.ljust(self.live_width))
        self.stdout.flush()
        self.live_width, self.drawn_at = len(text), now

    def summary(self, text: str) -> None:
        """The last line: on stdout of a terminal, else talk."""
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
            self.say(f"warning: {name} is no longer written ({_lost(stream)}); its lines are in this log")

    def _to_log(self, line: str) -> None:
        if self.log is None:
            return
        try:
            self.log.write(visible(line) + "\n")
            self.log.flush()
        except OSError as error:  # a full disk: the next metric line or checkpoint ends the run with its name
            self.log = None
            self.say(f"warning: this log is no longer written ({error.strerror})")

    def _clear(self) -> None:
        if self.live_width:
            self.stdout.write("\r" + " " * self.live_width + "\r")
            self.stdout.flush()
            self.live_width = 0


def _lost(stream: TextIO) -> str | None:
    """Return why a vit.streams.Stream was lost; other streams raise instead."""
    reason: str | None = getattr(stream, "lost", None)
    return reason
