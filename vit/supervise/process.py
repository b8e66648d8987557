# SPDX-License-Identifier: Apache-2.0
"""Run one attempt as a child process, pass on its lines and signals, and end what outlives it.

This process adopts what its descendants leave behind: it is the first one of the launcher's container, or makes itself
a subreaper (prctl(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
MOST_LINES, MOST_LINE_BYTES = 400, 2000
END_SECONDS = 10.0  # for processes that outlive an attempt: a rank saves within 8 s of its daemon's end (rank.sh)
DRAIN_SECONDS = 0.3  # for the last lines in a pipe that a left-over process keeps open
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Stream:
    """A pipe from the attempt, copied to one of this process's own streams."""

    target: int
    lines: deque[str]
    on_line: Callable[[str], None]
    half: bytes = b""
    lost: bool = False
    """Whether the target has no reader anymore."""

    def pass_on(self, piece: bytes) -> None:
        """Write the bytes, and take lines from them."""
        while piece and not self.lost:
            try:
                written = os.write(self.target, piece)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            except OSError:  # closed, full, or without a reader: the run goes on
                self.lost = True
                break
            self._take(piece[:written])
            piece = piece[written:]
        self._take(piece)

    def _take(self, piece: bytes) -> None:
        *whole, self.half = (self.half + piece).split(b"\n")
        self.half = self.half[-MOST_LINE_BYTES:]
        for line in whole:
            text = line[-MOST_LINE_BYTES:].decode("utf-8", "replace").strip()
            self.lines.append(text)
            self.on_line(text)


class Watcher(Protocol):
    """What watches an attempt: vit.supervise.watchdog.monitors.Watchdog."""

    found: str

    def begin(self, child: int) -> None:
        """Watch the attempt whose first process this is."""

    def end(self) -> None:
        """Stop watching."""


@dataclass
class Attempts:
    """Runs one command at a time; a stop signal ends it and every wait."""

    on_line: Callable[[str], None]
    watcher: Watcher | None = None
    asked: int | None = None
    """The first stop signal that came."""
    child: int | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))

    @property
    def hang(self) -> str:
        """Why the watcher ended the attempt; empty if it did not."""
        return "" if self.watcher is None else self.watcher.found

    def __post_init__(self) -> None:
        """Take over the signals, and adopt orphans."""
        with contextlib.suppress(OSError, AttributeError):  # not Linux
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.wake, woken = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        self.asked = self.asked or number
        self.end_attempt()

    def end_attempt(self) -> None:
        """Ask the attempt to end; its ranks save their state."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGTERM)

    def pause(self, seconds: float) -> None:
        """Wait; a stop signal ends the wait."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.wake, selectors.EVENT_READ)
            while self.asked is None and (left := end - time.monotonic()) > 0:
                if selector.select(left):
                    self._read_wake()
                self._reap()

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Return the exit code of the command (128 + its signal), once all that it started has ended."""
        self.lines.clear()
        out, err = os.pipe(), os.pipe()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out[1],
            stderr=err[1],
            env=dict(environment),
            start_new_session=True,
        )
        os.close(out[1])
        os.close(err[1])
        self.child = process.pid
        if self.asked is not None:
            self._stop(self.asked, None)  # it came while the child started
        streams = {out[0]: Stream(1, self.lines, self.on_line), err[0]: Stream(2, self.lines, self.on_line)}
        if self.watcher is not None:
            self.watcher.begin(process.pid)
        try:
            code = self._follow(streams)
        finally:
            if self.watcher is not None:
                self.watcher.end()
            self.child = None
            for reading in streams:
                os.close(reading)
        process.returncode = code  # it was reaped here, with every other child
        self._end_the_rest()
        return 128 - code if code < 0 else code

    def _follow(self, streams: Mapping[int, Stream]) -> int:
        """Pass on the lines until the child has ended, and what is in the pipes by then; return its code."""
        code: int | None = None
        deadline: float | None = None
        with selectors.DefaultSelector() as selector:
            for number in (self.wake, *streams):
                selector.register(number, selectors.EVENT_READ)
            while code is None or len(selector.get_map()) > 1:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                for key, _ in selector.select(left):
                    if key.fd == self.wake:
                        self._read_wake()
                    elif piece := os.read(key.fd, 1 << 16):
                        streams[key.fd].pass_on(piece)
                    else:
                        selector.unregister(key.fd)
                code = self._reap() if code is None else code
                if code is not None and deadline is None:
                    deadline = time.monotonic() + DRAIN_SECONDS
        assert code is not None
        return code

    def _read_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 512)

    def _reap(self) -> int | None:
        """Reap every child that has ended; return the code of the attempt, None while it runs."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self.child:
                found = os.waitstatus_to_exitcode(status)

    def _end_the_rest(self) -> None:
        """End what outlived the attempt: mpirun, if its script was killed, and the daemons and ranks below it."""
        deadline, asked = time.monotonic() + END_SECONDS, False
        while left := descendants(os.getpid()):
            if not asked:
                asked = True
                _signal_mpirun(left)
            if time.monotonic() >= deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            self._reap()


def _signal_mpirun(pids: Sequence[int]) -> None:
    """Ask mpirun among these processes to stop its ranks; it ends them, daemons too, within 2 s (measured)."""
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith(("mpirun", "prterun", "orterun")):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)


def descendants(ancestor: int) -> list[int]:
    """Return the processes whose chain of parents leads to this one and that still run."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                parents[int(entry.name)] = int(parent)
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {ancestor})
