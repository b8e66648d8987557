# SPDX-License-Identifier: Apache-2.0
"""Folders of this machine: temporary ones that do not pile up, and those that nothing is written into."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mpikit.errors import one_fault
from mpikit.text.quoting import shown

PREFIX = "mpikit-"
HELD = "held"  # locked while a process works in the folder; a process ID can be reused
YOUNG_SECONDS = 60.0  # a folder is made a moment before its lock

# Folders of the system (Filesystem Hierarchy Standard 3.0): nothing of a job belongs into these or below them ...
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr")
# ... and these contain other people's files: a job needs its own folder below them.
_SHARED = (
    "home",
    "media",
    "mnt",
    "opt",
    "root",
    "run",
    "srv",
    "tmp",
    "var",
    "var/lib",
    "var/log",
    "var/tmp",
    "dev/shm",
)


@contextlib.contextmanager
def work_folder() -> Iterator[tuple[Path, int]]:
    """Yield a temporary folder and the open file that marks it as in use; remove those of dead runs first."""
    clear_stale(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        held = os.open(Path(name) / HELD, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            yield Path(name), held
        finally:
            os.close(held)


def clear_stale(parent: Path) -> list[Path]:
    """Remove this user's work folders that are no longer in use; return them."""
    removed = []
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_stale(path):
                shutil.rmtree(path)
                removed.append(path)
    return removed


def _is_stale(path: Path) -> bool:
    """Whether it is a folder of ours, private, no longer young, and its lock is free."""
    found = path.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not private or time.time() - found.st_mtime < YOUNG_SECONDS:
        return False
    file = os.open(path / HELD, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def refuse_system_folder(key: str, folder: str) -> None:
    """Raise ValuesError for a folder whose files are the system's, or all people's."""
    place = Path(folder).resolve()
    home = Path("~").expanduser() if "HOME" in os.environ else Path("/")  # an unknown uid without HOME has no home
    shared = {Path("/"), home.resolve(), *(Path("/", name) for name in _SHARED)}
    below_system = (
        any(place.is_relative_to(Path("/", name)) for name in _SYSTEM) and Path("/dev/shm") not in place.parents
    )
    if place in shared or below_system:
        fix = f"--set {key}=/path of a folder for this job's results" if key == "output" else "give a separate folder"
        where, key = (key, "") if key.startswith("--") else ("", key)
        raise one_fault(key, f"{shown(folder)} belongs to the system or to others", fix, where)
