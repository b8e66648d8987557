# SPDX-License-Identifier: Apache-2.0
"""The folder of an export: complete or not there. A folder that anything else wrote is never replaced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vit.errors import ConfigError
from vit.files import file_sha256, named_storage, sync_folder, write_atomic

RECORD = "export.json"
"""What was exported, and the sha256 of each file; it also marks a folder as an export."""


def check_target(target: Path, *, force: bool) -> None:
    """Raise ConfigError unless the folder can be written."""
    if not os.path.lexists(target):
        return
    if not force:
        raise ConfigError("--out", f"{target} exists", "name another folder, or add --force to replace an export")
    if target.is_symlink() or not (target / RECORD).is_file():
        what = f"{target} was not written by an export, so --force does not replace it"
        raise ConfigError("--out", what, "name another folder")


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Give an empty folder beside the target, and put it into the target's place if the block succeeds.

    Raises StorageError.
    """
    unfinished, old = (target.with_name(f".{target.name}.{word}") for word in ("unfinished", "old"))
    with named_storage(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in (unfinished, old):  # by a kill
            shutil.rmtree(left, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            _sync(unfinished)
            if target.exists():
                target.rename(old)
            unfinished.rename(target)
            sync_folder(target.parent)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
            for left in (unfinished, old):
                shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Wait until the disk has all files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def write_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write export.json over the files that are in the folder."""
    files = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    write_atomic(folder / RECORD, json.dumps({**facts, "files": files}, indent=1) + "\n")
