# SPDX-License-Identifier: Apache-2.0
"""A data set on its way: built in <to>/.preparing, then renamed into place, and only then marked as whole.

MANIFEST.json      the data set is complete: its contents, and the archives they came from
.preparing/        a preparation that has not ended; another start of the same goes on with it
.prepare.lock      held while one runs
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vit.errors import ConfigError, DataError, LockedError, StorageError
from vit.files import CHUNK_BYTES, sync_folder, write_atomic

MANIFEST, STAGE, LOCK = "MANIFEST.json", ".preparing", ".prepare.lock"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Archive:
    """A file that is read: where, and the MD5 that its authors or their readers publish."""

    path: Path
    published_md5: str | None = None

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.name

    def stamp(self) -> dict[str, int]:
        """Return what distinguishes it from another file of the same name. Raises DataError."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise DataError(str(self.path), f"cannot be read ({error.strerror})", "give --from its folder") from error
        return {"bytes": found.st_size, "changed_ns": found.st_mtime_ns}


@dataclass(kw_only=True)
class Staging:
    """The target folder of one preparation."""

    dataset: str
    to: Path
    archives: Sequence[Archive]
    full: bool
    """Whether the archives must be the published ones."""
    tell: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> Path:
        """Where the parts are built."""
        return self.to / STAGE

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The folder made and locked, OSErrors named, while the block lasts. Raises LockedError, StorageError."""
        with named_target(self.to):
            self.to.mkdir(parents=True, exist_ok=True)
            with (self.to / LOCK).open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    fix = "wait for it, or stop it"
                    raise LockedError(str(self.to), "another preparation works in this folder", fix) from None
                yield

    def is_complete(self) -> bool:
        """Return whether the same archives were prepared here before. Raises ConfigError, DataError if others were."""
        found = read_manifest(self.to)
        if found is None:
            return False
        sizes = {name: item["bytes"] for name, item in found["archives"].items()}
        if found["dataset"] == self.dataset and sizes == {one.name: one.stamp()["bytes"] for one in self.archives}:
            if self.full and not found["full"]:
                raise DataError(str(self.to), "contains a subset", "give another --to, or --allow_subset")
            return True
        what = (
            f"contains {found['dataset']} of other archives"
            if found["dataset"] == self.dataset
            else f"contains {found['dataset']}"
        )
        raise ConfigError("--to", f"{self.to} {what}", "give another folder: two data sets are not mixed")

    def begin(self, own: Sequence[str], num_bytes: int) -> None:
        """Start, or go on with what an earlier start of the same left; `own` are the names that must be free."""
        stamps = {one.name: one.stamp() for one in self.archives}
        file = self.stage / "state.json"
        if file.exists():
            self.state = json.loads(file.read_text(encoding="utf-8"))
            self._check_same(stamps)
            self.tell(f"continues with the contents of {self.stage}")
            return
        there = [name for name in own if (self.to / name).exists() or (self.to / name).is_symlink()]
        if there:
            what = f"{self.to} contains {there[0]}, which vit.prepare did not write"
            raise ConfigError("--to", what, "give another folder, or check this one: vit.prepare imagefolder --from it")
        free = shutil.disk_usage(self.to).free
        if free < num_bytes:
            raise OSError(errno.ENOSPC, f"{num_bytes >> 20} MiB are needed, {free >> 20} MiB are free")
        self.state = {"dataset": self.dataset, "full": self.full, "archives": stamps, "md5": {}, "splits": None}
        self.stage.mkdir(exist_ok=True)
        self._save()

    def _check_same(self, stamps: Mapping[str, Mapping[str, int]]) -> None:
        old = self.state
        if old["dataset"] != self.dataset:
            what = f"{self.stage} contains an unfinished preparation of {old['dataset']}"
            raise ConfigError("--to", what, "give another folder, or remove that one")
        if old["archives"] != stamps or old["full"] != self.full:
            what = f"{self.stage} was begun with other archives or flags"
            raise ConfigError("--from", what, f"give those, or remove {self.stage} to start from the beginning")

    def publish(self, splits: Mapping[str, Mapping[str, int]], names: Sequence[str], **more: Any) -> None:
        """Put the verified parts in place, then mark the data set as whole."""
        if self.state["splits"] is None:
            sync_filesystem(self.stage)
            self.state |= {"splits": {split: dict(classes) for split, classes in splits.items()}, "names": list(names)}
            self.state["more"] = more
            self._save()
        self.put_in_place()

    @property
    def verified(self) -> bool:
        """Whether an earlier start had verified all parts, and ended while they were put in place."""
        return bool(self.state.get("splits"))

    def put_in_place(self) -> None:
        """The renames and the manifest; what an earlier start has done of it is left."""
        for name in self.state["names"]:
            if (self.stage / name).exists():
                (self.to / name).parent.mkdir(parents=True, exist_ok=True)
                (self.stage / name).rename(self.to / name)
        sync_folder(self.to)
        write_manifest(
            self.to,
            self.dataset,
            full=self.full,
            archives={
                name: {"bytes": stamp["bytes"], "md5": self.state["md5"].get(name)}
                for name, stamp in self.state["archives"].items()
            },
            splits=self.state["splits"],
            **self.state["more"],
        )
        shutil.rmtree(self.stage)

    def check_md5(self, archive: Archive) -> None:
        """Compute an archive's MD5 once, and compare it with the published one. Raises DataError."""
        known = self.state["md5"].get(archive.name)
        found = known or self._md5(archive.path)
        if found is None:
            return
        if self.full and archive.published_md5 not in (None, found):
            what = f"has the MD5 {found}, the published archive {archive.published_md5}"
            raise DataError(str(archive.path), what, "download it again; --allow_subset takes archives of your own")
        if not known:
            self.state["md5"][archive.name] = found
            self._save()

    def _md5(self, path: Path) -> str | None:
        """Return the MD5; None if a stop came first."""
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                if self.stop.is_set():
                    return None
                digest.update(chunk)
        return digest.hexdigest()

    def _save(self) -> None:
        with _SAVING:
            write_atomic(self.stage / "state.json", json.dumps(self.state) + "\n")


_SAVING = threading.Lock()


def run_all(work: Sequence[Callable[[], None]], num_workers: int, stop: threading.Event) -> None:
    """Do all of `work` in threads; the first failure, or a signal, stops the rest and is raised.

    Threads and not processes: they wait for the storage, not for Python, and none outlives a kill.
    """
    with ThreadPoolExecutor(num_workers, thread_name_prefix="prepare") as pool:
        try:
            waiting: set[Future[None]] = {pool.submit(one) for one in work}
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def named_target(path: Path) -> Iterator[None]:
    """Turn OSError into StorageError that names the path."""
    try:
        yield
    except OSError as error:
        what = f"cannot be written or read ({error.strerror or error})"
        fix = "free space or repair the folder; the same command then continues where it stopped"
        raise StorageError(str(error.filename or path), what, fix) from error


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a whole data set; None where there is none. Raises DataError."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if found["format"] != FORMAT or not isinstance(found["archives"], dict) or "dataset" not in found:
            raise ValueError("another format")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        what = f"is not a manifest of this program ({error})"
        raise DataError(str(folder / MANIFEST), what, "give another folder, or move the file away") from error
    return found


def write_manifest(
    folder: Path,
    dataset: str,
    *,
    full: bool,
    archives: Mapping[str, Any],
    splits: Mapping[str, Mapping[str, int]],
    **more: Any,
) -> None:
    """Mark a data set as whole: `splits` has the images of each class of train and val."""
    told = {
        split: {"images": sum(classes.values()), "num_classes": len(classes), "classes": dict(sorted(classes.items()))}
        for split, classes in splits.items()
    }
    content = {"format": FORMAT, "dataset": dataset, "full": full, "archives": archives, "splits": told, **more}
    write_atomic(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def sync_filesystem(folder: Path) -> None:
    """Write all that waits in memory for the file system of `folder`; an fsync for each file would take hours."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "syncfs") or library.syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)
