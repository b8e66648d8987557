# SPDX-License-Identifier: Apache-2.0
"""Faults of mounts that no local disk shows: a stand-in raises them where the trainer calls the system."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vit.files import file_sha256, reread, sync_folder, write_atomic


@pytest.fixture
def fsync_of_folders(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A stand-in for a mount whose folders cannot be synced: os.fsync raises that errno for them alone."""

    def install(number: int) -> None:
        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    return install


@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_a_mount_that_cannot_sync_folders_is_taken_as_it_is(
    tmp_path: Path, fsync_of_folders: Callable[[int], None], name: str
) -> None:
    fsync_of_folders(getattr(errno, name))
    write_atomic(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT", "EROFS", "ESTALE"])
def test_any_other_error_of_a_folders_sync_is_raised(
    tmp_path: Path, fsync_of_folders: Callable[[int], None], name: str
) -> None:
    fsync_of_folders(getattr(errno, name))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
        sync_folder(tmp_path)


@pytest.mark.parametrize(
    ("errors", "reads"), [([errno.ESTALE], 2), ([errno.ESTALE, errno.ESTALE], 2), ([errno.EIO], 1)]
)
def test_a_stale_handle_is_read_again_once_and_no_other_error(errors: list[int], reads: int) -> None:
    asked = []

    def read() -> str:
        asked.append(1)
        if len(asked) <= len(errors):
            raise OSError(errors[len(asked) - 1], "")
        return "content"

    if len(errors) < reads:
        assert reread(read) == "content"
    else:
        with pytest.raises(OSError):  # noqa: PT011  # its errno is asserted by the number of reads
            reread(read)
    assert len(asked) == reads


def test_a_file_whose_handle_went_stale_in_mid_read_is_hashed_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3 * 2**20)
    whole, really_open, fails = file_sha256(tmp_path / "a"), Path.open, [errno.ESTALE]

    class Stale:
        """A stand-in for a file on NFS that another client replaced: its second read fails."""

        def __init__(self, path: Path, *mode: str) -> None:
            self.file = really_open(path, *mode)
            self.reads = 0

        def fileno(self) -> int:
            return self.file.fileno()

        def __enter__(self) -> Stale:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def read(self, size: int) -> bytes:
            self.reads += 1
            if self.reads == 2 and fails:
                raise OSError(fails.pop(), "stale")
            return self.file.read(size)  # type: ignore[return-value]  # opened as bytes

    monkeypatch.setattr(Path, "open", lambda path, *mode: Stale(path, *mode))
    assert file_sha256(tmp_path / "a") == whole
    assert not fails
