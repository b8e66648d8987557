# SPDX-License-Identifier: Apache-2.0
"""The lock of a run's folder on a mount without flock: a file `lock.<k>` that its owner rewrites every 10 seconds.

Only contents are compared, never the clocks of two machines, and host and pid alone decide nothing. A contender
that finds lock files watches them for MISSED + 1 of its own intervals. If one changes, its owner lives. If none does,
the owner missed MISSED beats or more, and the contender makes `lock.<k + 1>` with O_EXCL, which only one contender can.
It then looks once more, and withdraws if anything changed. So no file of a living owner is ever deleted. An owner that
was suspended for that long finds the higher file before its next save, and ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import threading
import time
from functools import partial
from pathlib import Path

from vit.errors import LockedError, StorageError
from vit.files import reread

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
MISSED = 3
MOST_BYTES = 4096
NAME = re.compile(r"lock\.([1-9][0-9]{0,17})")
HOLDER = re.compile(rb"(host [\w.-]{1,253} pid \d{1,10})(?=\s|$)")
WAIT_OR_RENAME = "wait for that run, stop it, or use another --name"

Files = dict[int, bytes]
"""Number k of each `lock.<k>` and what it contains."""


class Heartbeat:
    """The lock of one run in a folder; `acquire` takes it, `verify` raises once it is lost."""

    def __init__(self, folder: Path, owner: str) -> None:
        """`owner` is one line that no other process has."""
        self.folder, self.owner = folder, owner
        self.descriptor = -1
        self.number = self.beats = 0
        self.writing = threading.Lock()
        self.ended = threading.Event()

    @property
    def path(self) -> Path:
        """lock.<k>, this run's own."""
        return self.folder / f"lock.{self.number}"

    def acquire(self) -> None:
        """Take the lock and start to beat; waits while others' files are watched. Raises LockedError, OSError."""
        stale = wait_for_silence(self.folder)
        self.number = 1 + max(stale, default=0)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.descriptor = os.open(self.path, flags, 0o644)
        except FileExistsError:
            raise _locked(self.folder, read_files(self.folder)) from None
        self.beat()
        found = read_files(self.folder)
        if found != {**stale, self.number: self._content()}:
            self.release()
            raise _locked(self.folder, read_files(self.folder))
        remove_files(self.folder, stale)
        threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()

    def _content(self) -> bytes:
        return f"{self.owner} beat {self.beats:012d}\n".encode()  # of one length: it is written over in place

    def beat(self) -> None:
        """Write the file with the next number, down to the server. Raises OSError."""
        with self.writing:
            if self.descriptor < 0:  # released meanwhile
                return
            self.beats += 1
            os.pwrite(self.descriptor, self._content(), 0)
            os.fsync(self.descriptor)

    def _keep_beating(self) -> None:
        while not self.ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # the mount is away for a while; `verify` raises if it stays away
                self.beat()

    def verify(self) -> None:
        """Raise LockedError if another run took over, StorageError if the file is gone. Raises OSError."""
        self.beat()  # before the look: a contender looks after it made its file, so one of the two sees the other
        files = read_files(self.folder)
        mine = files.pop(self.number, b"")
        if files:
            what = f"was taken over by {_holder(files)}: no heartbeat of this run was seen for {_silence():.0f} s"
            raise LockedError(
                str(self.folder), what, "find out why this process was suspended; the other run continues"
            )
        if not mine.startswith(self.owner.encode() + b" "):
            fix = "nothing was written after that; start again: the run resumes"
            raise StorageError(str(self.path), "was deleted or replaced during the run", fix)

    def release(self) -> None:
        """Delete the file, if it still is this run's own, and stop beating."""
        self.ended.set()
        with self.writing:
            if self.descriptor < 0:
                return
            with contextlib.suppress(OSError):
                if (read_small(self.path) or b"").startswith(self.owner.encode() + b" "):
                    self.path.unlink()
            os.close(self.descriptor)
            self.descriptor = -1


def wait_for_silence(folder: Path) -> Files:
    """Return the lock files in a folder, none of which anybody writes any more. Raises LockedError when one changes."""
    files = read_files(folder)
    if files:
        logger.info("%s has the lock file of %s: it is watched for %.0f s", folder, _holder(files), _silence())
        for _ in range(MISSED + 1):
            time.sleep(BEAT_SECONDS)
            found = read_files(folder)
            if not found:
                return found
            if found != files:
                raise _locked(folder, found)
    return files


def read_files(folder: Path) -> Files:
    """Return every `lock.<k>` in a folder. Raises OSError."""
    names = reread(partial(os.listdir, folder))
    numbers = [int(found[1]) for name in names if (found := NAME.fullmatch(name))]
    contents = {number: reread(partial(read_small, folder / f"lock.{number}")) for number in numbers}
    return {number: content for number, content in contents.items() if content is not None}


def remove_files(folder: Path, files: Files) -> None:
    """Delete lock files that are no longer written. Raises OSError."""
    for number in files:
        (folder / f"lock.{number}").unlink(missing_ok=True)


def read_small(path: Path) -> bytes | None:
    """The first bytes of a lock file, opened anew so that NFS asks the server; None if it is gone. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, MOST_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def holder_of(content: bytes) -> str:
    """`host NAME pid NUMBER` of a lock file."""
    found = HOLDER.match(content)
    return found[1].decode() if found else "an unknown process"


def _silence() -> float:
    """Seconds without a change after which a lock file counts as abandoned."""
    return (MISSED + 1) * BEAT_SECONDS


def _holder(files: Files) -> str:
    return holder_of(files[max(files)] if files else b"")


def _locked(folder: Path, files: Files) -> LockedError:
    return LockedError(str(folder), f"is in use by {_holder(files)}", WAIT_OR_RENAME)
