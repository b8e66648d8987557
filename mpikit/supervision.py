# SPDX-License-Identifier: Apache-2.0
"""A command that ends when this process does, with all that it started. Also a program: the supervisor in between.

generate.py --pipe--> supervisor -> command -> its descendants

The supervisor adopts every descendant whose parent is gone (PR_SET_CHILD_SUBREAPER), as mpirun's daemons have it. It
reads a pipe whose other end only generate.py has: at its end generate.py is gone, by kill -9 too. The command gets TERM
and GRACE_SECONDS to save, then all descendants are killed. Run as a file, it imports nothing of the kit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 10.0  # between TERM and KILL when no user can ask for more
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def run_supervised(
    command: Sequence[str], environment: Mapping[str, str], held: Sequence[int] = (), output: int | None = None
) -> tuple[int, bool]:
    """The exit code of a command, and whether Ctrl-C ended it; `held` are files that the supervisor keeps open.

    `output` is the file for its stdout and stderr; without it, they are this process's own. The first Ctrl-C, TERM or
    HUP lets the command save its state; the second one ends it at once.
    """
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-IS", __file__, str(theirs), *command],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=(theirs, *held),
    )
    os.close(theirs)
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        process.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGUSR2)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        code = process.wait()
    finally:
        os.close(ours)
        for number, handler in before.items():
            signal.signal(number, handler)
    return (128 - code if code < 0 else code), signal.SIGINT in asked


def supervise(pipe: int, command: Sequence[str]) -> int:
    """Run the command to its end, or to that of the pipe; then end every descendant. The command's exit code."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in (*STOP_SIGNALS, signal.SIGUSR2, signal.SIGCHLD):  # not SIG_IGN, which the command would inherit
        signal.signal(number, lambda *_: None)  # each wakes the loop below; generate.py sends TERM and USR2 alone
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)
    try:
        return _until_the_end(process, pipe, wake)
    finally:
        end_descendants()


def _until_the_end(process: subprocess.Popen[bytes], pipe: int, wake: int) -> int:
    deadline = None
    with selectors.DefaultSelector() as selector:
        for file in (pipe, wake):
            selector.register(file, selectors.EVENT_READ)
        while (code := process.poll()) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = {key.fd for key, _ in selector.select(left)}
            said = os.read(wake, 512) if wake in ready else b""
            if pipe in ready:  # generate.py is gone
                selector.unregister(pipe)
                deadline = time.monotonic() + GRACE_SECONDS
            if pipe in ready or signal.SIGTERM in said:
                process.terminate()
            if signal.SIGUSR2 in said or (deadline is not None and time.monotonic() >= deadline):
                end_descendants()
    return code


def end_descendants() -> None:
    """Kill every descendant of this process, those too that come meanwhile or have left their session.

    None is waited for: the exit code of the command belongs to its Popen, and zombies pass on to init.
    """
    while left := _descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _descendants(ancestor: int) -> list[int]:
    """Processes whose chain of parents leads here and that still run."""
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


def _die_with_parent() -> None:
    """In the command before it starts: TERM when the supervisor itself is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main(argv: Sequence[str]) -> int:
    """The supervisor's own exit code: that of the command, 128 and its signal if one ended it."""
    code = supervise(int(argv[0]), argv[1:])
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
