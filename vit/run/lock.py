# SPDX-License-Identifier: Apache-2.0
"""Which run uses a folder, and whether it is still the folder that the run opened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import socket
import stat
import weakref
from pathlib import Path

from vit.errors import LockedError, StorageError
from vit.files import named_storage, reread
from vit.run.heartbeat import (
    BEAT_SECONDS,
    WAIT_OR_RENAME,
    Heartbeat,
    holder_of,
    read_small,
    remove_files,
    wait_for_silence,
)

logger = logging.getLogger(__name__)

NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What flock raises on a mount that lacks it: NFS without lockd, Lustre without -o flock, some FUSE mounts."""
POD = re.compile(r"/pods/([0-9a-f-]{36})/")
NOTHING_MADE = "nothing was created in its place; put the folder back, or start again with another --name"


class FolderLock:
    """The exclusive lock of an open folder, held until `release` or until the process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises LockedError, StorageError."""
        self.path = path
        self.owner = f"host {socket.gethostname()} pid {os.getpid()} machine {_machine()} nonce {secrets.token_hex(16)}"
        self.descriptors: list[int] = []
        self.heartbeat: Heartbeat | None = None
        try:
            with named_storage(path):
                self._acquire()
        except BaseException:
            self.release()
            raise

    def _acquire(self) -> None:
        folder = self._keep(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            lock = self._keep(os.open("lock", flags, 0o644, dir_fd=folder))
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            fix = "delete the link, or use another --name"
            raise StorageError(str(self.path / "lock"), "is a symbolic link", fix) from error
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise StorageError(str(self.path / "lock"), "is not a regular file", "delete it, or use another --name")
        self.folder = folder
        # Both stay open, so that no other file can get their inode numbers.
        self.identities = [_identity(os.fstat(descriptor)) for descriptor in (folder, lock)]
        self._forget_in_children()
        self._lock(lock)
        self.line = f"{self.owner}\n".encode()
        os.ftruncate(lock, 0)
        os.pwrite(lock, self.line, 0)
        self._verify_acquired()

    def _keep(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return descriptor

    def _forget_in_children(self) -> None:
        """Close the files in forked processes: a loader that outlives its rank must not hold the lock."""
        me = weakref.ref(self)

        def forget() -> None:
            if (lock := me()) is not None:
                lock._close()

        os.register_at_fork(after_in_child=forget)

    def _lock(self, descriptor: int) -> None:
        """flock, or a heartbeat where the mount has no flock."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._locked(os.pread(descriptor, 4096, 0)) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            logger.warning(
                "%s: this mount has no flock (%s): the folder is locked by a file lock.<k> that is rewritten every "
                "%.0f s; all nodes must mount it the same way",
                self.path,
                errno.errorcode[error.errno],
                BEAT_SECONDS,
            )
            self.heartbeat = Heartbeat(self.path, self.owner)
            self.heartbeat.acquire()
        else:  # an owner on a node whose mount has no flock
            remove_files(self.path, wait_for_silence(self.path))

    def _verify_acquired(self) -> None:
        """A run that sets this folder aside may have renamed it before it was locked here."""
        try:
            self.verify_place()
        except StorageError:
            raise LockedError(str(self.path), "is being replaced by another run", WAIT_OR_RENAME) from None

    def make_folder(self, name: str) -> None:
        """Create a folder in the one that was opened, wherever the path leads now, unless it exists. Raises OSError."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self.folder)

    def verify_place(self) -> None:
        """Raise StorageError unless the path still leads to the folder and the lock file that were opened."""
        with named_storage(self.path):
            try:
                found = [reread(lambda: self.path.stat()), reread(lambda: (self.path / "lock").lstat())]
            except (FileNotFoundError, NotADirectoryError):
                what = "the run's folder or its lock file was deleted, renamed or unmounted during the run"
                raise StorageError(str(self.path), what, NOTHING_MADE) from None
        if [_identity(entry) for entry in found] != self.identities:
            what = "is another folder or mount than the one that the run opened, or its lock file was replaced"
            raise StorageError(str(self.path), what, NOTHING_MADE)

    def verify(self) -> None:
        """Raise StorageError as `verify_place` does, LockedError if another run uses the folder now."""
        self.verify_place()
        with named_storage(self.path):
            line = reread(lambda: read_small(self.path / "lock")) or b""
            if line != self.line:
                raise self._locked(line)
            if self.heartbeat is not None:
                self.heartbeat.verify()

    def _locked(self, line: bytes) -> LockedError:
        return LockedError(str(self.path), f"is in use by {holder_of(line)}", WAIT_OR_RENAME)

    def follow(self, path: Path) -> None:
        """The run renamed the folder itself."""
        self.path = path
        if self.heartbeat is not None:
            self.heartbeat.folder = path

    def release(self) -> None:
        """Let the next run have the folder."""
        if self.heartbeat is not None:
            self.heartbeat.release()
        self._close()

    def _close(self) -> None:
        while self.descriptors:
            with contextlib.suppress(OSError):
                os.close(self.descriptors.pop())


def _identity(entry: os.stat_result) -> tuple[int, int]:
    return entry.st_dev, entry.st_ino


def _machine() -> str:
    """Return the pod's uid, else the boot id: host and pid alone may be those of an earlier process."""
    for path, pattern in (("/proc/self/mountinfo", POD), ("/proc/sys/kernel/random/boot_id", re.compile(r"(\S+)"))):
        with contextlib.suppress(OSError):
            found = pattern.search(Path(path).read_text(encoding="utf-8", errors="replace"))
            if found:
                return found[1]
    return "unknown"
