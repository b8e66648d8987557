# SPDX-License-Identifier: Apache-2.0
"""One file from a web server to one path: whole and checked, or not there. Resumed by ranges, locked, bounded in tries.

<name>            only ever the whole, checked file
<name>.part       the bytes so far; its lock is held during a download
<name>.part.json  which version of the file they belong to
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vit.errors import DataError, LockedError, NetworkError, StorageError
from vit.fetch.http import Answer, Changed, Passing, Remote, Stated
from vit.files import file_checksum, sync_folder, write_atomic

PROGRESS_BYTES = 2**20  # a try that brought this much counts as none
LONGEST_PAUSE_SECONDS = 60.0
SYNC_BYTES = 2**28  # so that closing a file of gigabytes does not write all of it at once
MOST_BYTES = 2**33  # 8 GiB: three times the largest weights that Google publishes
# Each has a CRC of what is in it, which fetch.verify checks.
CHECKED_WITHIN = (".npz", ".zip", ".gz", ".tgz")
WEB_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error", b"<!--")
MAGIC = {  # file name's end: what such a file begins with
    (".npz", ".zip"): b"PK\x03\x04",
    (".gz", ".tgz"): b"\x1f\x8b",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How often and how long to try."""

    tries: int = 8
    """In a row, without progress."""
    pause_seconds: float = 1.0
    """Before the second try; doubled from then on, to at most a minute."""


@dataclass(kw_only=True)
class Download:
    """A download to `target`; `tell` gets a sentence at a time, `progress` the bytes so far and the size."""

    remote: Remote
    target: Path
    tell: Callable[[str], None]
    progress: Callable[[int, int | None], None]
    patience: Patience = Patience()
    md5: str | None = None
    """What the user knows of the file; it stands above what the server states."""
    sha256: str | None = None
    """The same, or what is pinned of a published file."""
    most_bytes: int = MOST_BYTES
    """A larger file is refused, by the size that the server states and by what comes."""
    sleep: Callable[[float], None] = time.sleep
    stated: Stated = field(default_factory=Stated)

    @property
    def part(self) -> Path:
        """The file that grows."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def state_file(self) -> Path:
        """What is known of the part's bytes."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def run(self, check: Callable[[Path], str]) -> str:
        """Download, check and put in place; what `check` says of the file. Raises TrainError and leaves the part."""
        file = self._locked()
        try:
            if self.target.exists():
                said = self._is_there(check)
            else:
                self._fill(file)
                said = self._checked(check)
                self._put_in_place(file)
        finally:
            self._tidy(file)
        return said

    def _locked(self) -> BinaryIO:
        """Return the part, created if needed, with its lock. Raises LockedError, StorageError."""
        while True:
            try:
                self.part.parent.mkdir(parents=True, exist_ok=True)
                file = self.part.open("ab", buffering=0)
            except OSError as error:
                raise self._storage(error) from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise LockedError(str(self.part), "another download writes it", "wait for it, or stop it") from None
            except OSError as error:
                raise self._storage(error) from error
            if self._is_still(file):
                return file
            file.close()  # the other download has put it in place meanwhile

    def _is_still(self, file: BinaryIO) -> bool:
        try:
            return os.fstat(file.fileno()).st_ino == self.part.stat().st_ino
        except FileNotFoundError:
            return False

    def _tidy(self, file: BinaryIO) -> None:
        """Take an empty part away, and the state of a part that is in place."""
        try:
            if not os.fstat(file.fileno()).st_size and self._is_still(file):
                self.part.unlink()
            if not self.part.exists():
                self.state_file.unlink(missing_ok=True)
        except OSError:
            pass  # a folder that cannot be written is reported already
        finally:
            file.close()

    def _is_there(self, check: Callable[[Path], str]) -> str:
        """Check a target that exists: the same file, or an error."""
        self._once_more(self.remote.open).body.close()
        size = self.target.stat().st_size
        if self.stated.size not in (None, size):
            self._is_another(f"{size} bytes, the server's has {self.stated.size}")
        wrong = self._wrong_checksum(self.target)
        if wrong:
            self._is_another(wrong)
        self.tell(f"{self.target} is there already, the same as the server's")
        return check(self.target)

    def _is_another(self, how: str) -> None:
        raise DataError(
            str(self.target), f"is there already and is another file ({how})", "move it away, or give another path"
        )

    def _fill(self, file: BinaryIO) -> None:
        """Bytes until the part has all; tries in a row that bring nothing new are bounded."""
        failed, furthest = 0, os.fstat(file.fileno()).st_size
        while True:
            reason, wait = "", 0.0
            try:
                self._append(file)
                return
            except Changed as change:
                reason = f"starts again from the beginning: {change}"
                self._forget(file)
            except Passing as passing:
                reason, wait = passing.reason, passing.wait_seconds
            reached = os.fstat(file.fileno()).st_size
            failed = 1 if reached >= furthest + PROGRESS_BYTES else failed + 1
            furthest = max(furthest, reached)
            self._pause(failed, reason, wait)

    def _pause(self, failed: int, reason: str, wait_seconds: float) -> None:
        """Wait before the next try. Raises NetworkError if there is none left."""
        if failed >= self.patience.tries:
            what = f"{failed} tries failed, the last one: {reason}"
            fix = "look at the network (https_proxy?), then start again: it continues where it stopped"
            raise NetworkError(self.remote.name, what, fix)
        pause = max(wait_seconds, min(self.patience.pause_seconds * 2 ** (failed - 1), LONGEST_PAUSE_SECONDS))
        self.tell(f"{reason}; try {failed + 1} of {self.patience.tries} in {pause:g} s")
        self.sleep(pause)

    def _once_more(self, ask: Callable[[], Answer]) -> Answer:
        """Return an answer, after as many tries as it takes."""
        failed = 0
        while True:
            try:
                answer = ask()
                self.stated = answer.stated
                return answer
            except Passing as passing:
                failed += 1
                self._pause(failed, passing.reason, passing.wait_seconds)

    def _append(self, file: BinaryIO) -> None:
        """What is missing of the part, or all of it if the server will have it so."""
        known = self._known()
        size = os.fstat(file.fileno()).st_size
        if known and known.size is not None and size == known.size:
            self.stated = known
            return
        start = size if known and self._may_go_on(known, size) else 0
        answer = self.remote.open(start, known)
        try:
            if size != answer.start:
                os.ftruncate(file.fileno(), answer.start)
            self.stated = answer.stated
            self._check_size(answer.stated.size or 0)
            self._remember(answer.stated)
            self._has_room(answer.start)
        except OSError as error:
            answer.body.close()
            raise self._storage(error) from error
        except DataError:
            answer.body.close()
            self._forget_files()
            raise
        if answer.start:
            self.tell(f"continues at byte {answer.start}")
        self._write(file, answer.start, answer.chunks())

    def _may_go_on(self, known: Stated, size: int) -> bool:
        """Return whether a part may be continued: only if the whole is checked at the end.

        A server may keep the ETag of a file that it changes, so that the rest of another file would be appended.
        """
        checked = self.sha256 or self.md5 or known.md5 or self.target.suffix in CHECKED_WITHIN
        return bool(checked and known.version) and (known.size is None or size < known.size)

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            what = f"has more than {self.most_bytes >> 20} MiB"
            raise DataError(self.remote.name, what, "check the address; --max_mib raises the limit")

    def _write(self, file: BinaryIO, position: int, chunks: Iterator[bytes]) -> None:
        synced = position
        for chunk in chunks:
            if not position:
                self._looks_right(chunk)
            if position + len(chunk) > self.most_bytes:
                self._forget_files()
                self._check_size(position + len(chunk))
            try:
                written = 0
                while written < len(chunk):  # an unbuffered file may take less than all
                    written += file.write(chunk[written:])
                position += len(chunk)
                if position - synced >= SYNC_BYTES:
                    os.fdatasync(file.fileno())
                    synced = position
            except OSError as error:
                raise self._storage(error) from error
            self.progress(position, self.stated.size)

    def _looks_right(self, start: bytes) -> None:
        """Raise DataError for a web page, and for what does not begin as a file of this name does."""
        wanted = next((magic for ends, magic in MAGIC.items() if self.target.name.endswith(ends)), b"")
        if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:32].lower().startswith(WEB_PAGES):
            title = " ".join(start[:400].decode(errors="replace").split())[:120]
            what = f"the server answers with a page, not with the file ({title})"
        elif not start.startswith(wanted[: len(start)]):
            what = f"does not begin as a {self.target.suffix} file does ({start[:8]!r})"
        else:
            return
        raise DataError(self.remote.name, what, "check the address, and whether a proxy requires a login")

    def _has_room(self, start: int) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if self.stated.size is not None and free < self.stated.size - start:
            raise OSError(
                errno.ENOSPC, f"{(self.stated.size - start) >> 20} MiB are missing, {free >> 20} MiB are free"
            )

    def _checked(self, check: Callable[[Path], str]) -> str:
        """Return what `check` says of the whole part; a wrong part is deleted."""
        try:
            size = self.part.stat().st_size
            wrong = self._wrong_checksum(self.part)
            if self.stated.size not in (None, size):
                wrong = f"{size} bytes came, the server states {self.stated.size}"
            if wrong:
                fix = "start again; if it fails again, the file on the server is damaged or on the way"
                raise DataError(self.remote.name, f"the downloaded file is damaged ({wrong})", fix)
            return check(self.part)
        except OSError as error:
            raise self._storage(error) from error
        except DataError:
            self._forget_files()
            raise

    def _wrong_checksum(self, path: Path) -> str | None:
        """Return how a file differs from the checksum that is known best; None if it does not, or none is known."""
        md5 = self.md5 or (None if self.sha256 else self.stated.md5)
        known = [(name, value) for name, value in (("SHA-256", self.sha256), ("MD5", md5)) if value]
        for name, value in known:
            found = file_checksum(path, name.replace("-", ""))
            self.tell(f"{name} {found}")
            if found != value:
                return f"{name} {found}, not {value}"
        if not known:
            self.tell("the server states no MD5")
        return None

    def _put_in_place(self, file: BinaryIO) -> None:
        try:
            os.fsync(file.fileno())
            self.part.rename(self.target)
            self.target.chmod(0o644)
            sync_folder(self.target.parent)
        except OSError as error:
            raise self._storage(error) from error

    def _known(self) -> Stated | None:
        """Return what the part's bytes belong to; None for a part of another address."""
        try:
            found = json.loads(self.state_file.read_text(encoding="utf-8"))
            return Stated.of(found["stated"]) if found["url"] == self.remote.url else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _remember(self, stated: Stated) -> None:
        write_atomic(self.state_file, json.dumps({"url": self.remote.url, "stated": stated.as_dict()}) + "\n")

    def _forget(self, file: BinaryIO) -> None:
        try:
            self.state_file.unlink(missing_ok=True)
            os.ftruncate(file.fileno(), 0)
        except OSError as error:
            raise self._storage(error) from error

    def _forget_files(self) -> None:
        self.state_file.unlink(missing_ok=True)
        os.truncate(self.part, 0)

    def _storage(self, error: OSError) -> StorageError:
        what = f"cannot be written ({error.strerror or error})"
        fix = "make room, or give a writable folder; the same command then continues where it stopped"
        return StorageError(str(self.target), what, fix)
