# SPDX-License-Identifier: Apache-2.0
"""Processes that hold a run's folder, also on a mount without flock.

No machine of the tests has such a mount. The stand-in is the kernel's own: a seccomp filter that makes the system call
flock fail with the errno that NFS or Lustre would give.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import subprocess
import sys
from pathlib import Path

from tests.support.running import ROOT

FLOCK = {"x86_64": 73, "aarch64": 32}  # of arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h
SET_NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2  # linux/prctl.h
HOLD = """
import logging, sys, pathlib
from tests.support.holding import refuse_flock
from vit.run import heartbeat
from vit.errors import TrainError
from vit.run.folder import RunFolder
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s", force=True)
path, error, heartbeat.BEAT_SECONDS = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
if error != "none":
    refuse_flock(error)
folder = RunFolder(path)
try:
    folder.acquire()
    print("held", flush=True)
    for line in sys.stdin:
        folder.verify()
        print("still held", flush=True)
    folder.release()
except TrainError as fault:
    print(fault, flush=True)
    sys.exit(fault.exit_code)
"""


class Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(Instruction))]


def refuse_flock(name: str) -> None:
    """From now on flock fails in this process, for good."""
    lines = [
        Instruction(0x20, 0, 0, 0),  # load the number of the system call
        Instruction(0x15, 0, 1, FLOCK[platform.machine()]),  # if it is flock
        Instruction(0x06, 0, 0, 0x0005_0000 | getattr(errno, name)),  # return this error
        Instruction(0x06, 0, 0, 0x7FFF_0000),  # else allow
    ]
    program = Program(len(lines), (Instruction * len(lines))(*lines))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "seccomp")


def start_holder(folder: Path, error: str = "none", *, beat_seconds: float = 0.1) -> subprocess.Popen[str]:
    """A process that takes the folder; it verifies at each line of stdin and ends at its end."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), error, str(beat_seconds)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def line_of(process: subprocess.Popen[str], start: str) -> str:
    """The process's next line that starts so; what it said instead, if it ended."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(start):
            return line
    return f"ended: {''.join(said)}"


def ask(process: subprocess.Popen[str]) -> str:
    """What the process says when it is to verify."""
    assert process.stdin is not None
    process.stdin.write("verify\n")
    process.stdin.flush()
    return line_of(process, "")
