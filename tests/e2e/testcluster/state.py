# SPDX-License-Identifier: Apache-2.0
"""The folder that holds all of a running cluster, the lock on it, and the record of its processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from testcluster.errors import ClusterError

MARK = "this-is-a-test-cluster"  # `down` removes no folder without it
KILL_SECONDS = 10
CGROUPS = Path("/sys/fs/cgroup")


def state_folder() -> Path:
    """MPIKIT_CLUSTER, else mpikit-cluster-UID in XDG_RUNTIME_DIR or /tmp."""
    own = os.environ.get("MPIKIT_CLUSTER")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return Path(own or f"{runtime}/mpikit-cluster-{os.getuid()}").resolve()


@dataclass(frozen=True)
class Process:
    """A process that we started; its start time tells it from a later one with the same number."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; one that ended and waits for its parent does not."""
        return started_at(self.pid) == self.started


def started_at(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if it does not run. proc(5), stat, fields 3 and 22."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class State:
    """One state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.progress = folder / "progress"
        self.outcome = folder / "outcome"
        self.values = folder / "values.yaml"

    @property
    def cgroup(self) -> str:
        """Name of the pods' cgroup, below each controller."""
        return re.sub(r"[^A-Za-z0-9]+", "-", str(self.folder)).strip("-")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, which lies beside it; a second up or down is refused."""
        path = self.folder.with_name(f"{self.folder.name}.lock")
        with self._own_lock(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _own_lock(self, path: Path) -> TextIO:
        """The open lock file, locked; one that its last holder removed meanwhile does not count."""
        while True:
            try:
                file = path.open("a")
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except PermissionError as foreign:
                what = f"{self.folder} is another user's, and so is its cluster"
                raise ClusterError(what, "name a folder of your own: MPIKIT_CLUSTER=...") from foreign
            except BlockingIOError as busy:
                what = f"another scripts/cluster works on {self.folder}"
                raise ClusterError(what, "wait for it, or name a folder of your own: MPIKIT_CLUSTER=...") from busy
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
            file.close()

    def create(self) -> None:
        """Make the empty folder, for this user alone."""
        self.folder.mkdir(mode=0o755)
        (self.folder / MARK).touch()
        for name in ("log", "keys", "kubeconfigs"):
            (self.folder / name).mkdir(mode=0o700 if name == "keys" else 0o755)

    def cover(self, folders: tuple[str, ...]) -> None:
        """See that these folders of the machine exist, so that inside.py can put its own over them."""
        made = [folder for folder in folders if not Path(folder).exists()]
        (self.folder / "made").write_text(json.dumps(made))
        for folder in made:
            Path(folder).mkdir(parents=True)

    @property
    def exists(self) -> bool:
        """Whether a cluster, running or not, has left its folder here; another kind of folder is refused."""
        if not self.folder.exists():
            return False
        owner = self.folder.stat().st_uid
        if owner != os.getuid():
            what = f"{self.folder} belongs to user {owner}, and so does its cluster"
            raise ClusterError(what, "name a folder of your own: MPIKIT_CLUSTER=/tmp/my-cluster scripts/cluster up")
        if not (self.folder / MARK).exists():
            what = f"{self.folder} exists and is no test cluster's folder"
            raise ClusterError(what, "name a folder that does not exist yet: MPIKIT_CLUSTER=...")
        return True

    def record(self) -> None:
        """Write down the calling process, between fork and exec, so that no crash can lose it."""
        (self.folder / "process").write_text(json.dumps({"pid": os.getpid(), "started": started_at(os.getpid())}))

    @property
    def process(self) -> Process | None:
        """The outermost process of the cluster; None if none was started."""
        try:
            return Process(**json.loads((self.folder / "process").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def running(self) -> bool:
        """Whether the cluster's processes live."""
        return self.process is not None and self.process.alive

    def stop(self) -> None:
        """Kill the outermost process; the kernel ends all that runs in its namespaces, and their mounts and links."""
        process = self.process
        if process is None:
            return
        inner = [Process(pid, started) for pid in _children(process) if (started := started_at(pid)) is not None]
        for member in (*inner, process):
            if member.alive:
                os.kill(member.pid, signal.SIGKILL)
        deadline = time.monotonic() + KILL_SECONDS
        while any(member.alive for member in (*inner, process)):
            if time.monotonic() > deadline:
                raise ClusterError(f"process {process.pid} does not end", "look at it with ps; then run down again")
            time.sleep(0.05)

    def remove(self) -> None:
        """Remove the pods' cgroups, the empty folders that were made for covering, and the state folder."""
        for root in (CGROUPS / self.cgroup, *CGROUPS.glob(f"*/{self.cgroup}")):  # version 2, version 1
            _remove_cgroup(root)
        made = self.folder / "made"
        for folder in json.loads(made.read_text()) if made.exists() else ():
            with contextlib.suppress(OSError):  # another program uses it by now
                Path(folder).rmdir()
        shutil.rmtree(self.folder)


def _children(process: Process) -> list[int]:
    """Children of a process, if it is still the one that was recorded."""
    if not process.alive:
        return []
    try:
        return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def _remove_cgroup(root: Path) -> None:
    """Remove a cgroup and those below it; their last processes may still be on their way out."""
    for folder, _, _ in os.walk(root, topdown=False):
        deadline = time.monotonic() + KILL_SECONDS
        while True:
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                break
            except OSError as busy:
                if time.monotonic() > deadline:
                    raise ClusterError(f"cgroup {folder} is still in use", "run scripts/cluster down again") from busy
                time.sleep(0.05)
            else:
                break
