# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: folders step_<8 digits> with model.pt, optimizer.pt, state.json and MANIFEST.json (sha256, bytes).

Where a run averages its weights, the average is in ema.pt.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vit.errors import StorageError
from vit.files import HashingFile, file_sha256, named_storage, not_inherited, reread, sync_folder, write_atomic

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
FOLDER = re.compile(r"step_[0-9]{8,}")
FILES = {"model.pt", "optimizer.pt", "state.json"}
AVERAGE = "ema.pt"
MOST_JSON_BYTES = 64 * 2**20  # of a manifest or state.json; class names are the bulk of a state
SHA256 = re.compile(r"[0-9a-f]{64}")

Tensors = dict[str, dict[str, Any]]
"""What goes into each .pt file of a checkpoint, by its name without .pt: model, optimizer and ema."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint: its folder and its state.json."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Updates done when it was saved."""
        return int(self.state["step"])

    def load(self, file: str) -> Any:
        """Tensors of model.pt, optimizer.pt or ema.pt, on the CPU."""
        try:
            return reread(lambda: torch.load(self.path / file, map_location="cpu", weights_only=True))
        except OSError as error:
            fix = "--output_dir must be one folder that all nodes share"
            what = f"cannot be read on this rank ({error.strerror or error})"
            raise StorageError(str(self.path / file), what, fix) from error


def folder_name(step: int) -> str:
    """step_00001000 for 1000."""
    return f"step_{step:08d}"


def save_checkpoint(
    root: Path,
    tensors: Tensors,
    state: dict[str, Any],
    confirm: Callable[[], None] = lambda: None,
    on_progress: Callable[[], None] = lambda: None,
) -> Path:
    """Write a checkpoint, whole or not at all, to the existing folder root; return its folder. Raises StorageError.

    Calls `confirm`, which may raise, before the checkpoint takes its name, and `on_progress` after each part that it
    writes or reads back.
    """
    final = root / folder_name(state["step"])
    temporary, damaged = root / f".tmp_{final.name}", root / f".tmp_damaged_{final.name}"
    with named_storage(final), contextlib.ExitStack() as stack:
        opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, opened)
        stack.enter_context(not_inherited(opened))
        _remove(temporary)
        _remove(damaged)
        temporary.mkdir()
        files = {
            f"{name}.pt": _save_tensors(temporary / f"{name}.pt", content, on_progress)
            for name, content in tensors.items()
        }
        write_atomic(temporary / "state.json", json.dumps(state, indent=1))
        files["state.json"] = _entry(temporary / "state.json")
        write_atomic(temporary / MANIFEST, json.dumps({"step": state["step"], "files": files}, indent=1))
        sync_folder(temporary)
        _verify_written(temporary, files, on_progress)
        confirm()
        # By descriptor: since `confirm`, the path may lead to another folder.
        with contextlib.suppress(FileNotFoundError):
            os.rename(final.name, damaged.name, src_dir_fd=opened, dst_dir_fd=opened)
        os.rename(temporary.name, final.name, src_dir_fd=opened, dst_dir_fd=opened)
        sync_folder(root)
        _remove(damaged)
    return final


def _save_tensors(path: Path, tensors: dict[str, Any], on_progress: Callable[[], None]) -> dict[str, Any]:
    with path.open("wb", buffering=0) as file, not_inherited(file.fileno()):
        hashing = HashingFile(file, on_progress)
        try:
            torch.save(tensors, hashing)  # type: ignore[arg-type]  # torch needs write and flush only
        except RuntimeError as error:
            raise hashing.error or OSError(str(error)) from error
        os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # so that the storage is read, not the memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return {"sha256": hashing.digest.hexdigest(), "bytes": hashing.num_bytes}


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def _verify_written(path: Path, files: dict[str, Any], on_progress: Callable[[], None]) -> None:
    """Read the files of a new checkpoint back. Raises StorageError if one differs from what was written."""
    try:
        for name, entry in files.items():
            _verify_file(path, name, entry)
            on_progress()
    except Damaged as damage:
        fix = "repair the storage of --output_dir, then start again: the run resumes from the checkpoint before"
        raise StorageError(str(path), f"differs from what was written ({damage})", fix) from damage


class Damaged(Exception):
    """A checkpoint is not what was saved; the text says why."""


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if its manifest lists the right files and step, and they are whole."""
    try:
        _verified_state(path)
    except Damaged as damage:
        return str(damage)
    return None


def _verified_state(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint that verifies. Raises Damaged."""
    manifest = _read_object(path / MANIFEST)
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise Damaged(f"{MANIFEST} has no list of files")
    for name in sorted(FILES - files.keys()):
        raise Damaged(f"{MANIFEST} does not list {name}")
    for name in sorted(files.keys() - FILES - {AVERAGE}):
        raise Damaged(f"{MANIFEST} lists {_shown(name)}, which does not belong to a checkpoint")
    for name, entry in files.items():
        _verify_file(path, name, entry)
    state = _read_object(path / "state.json")
    step = state.get("step")
    if type(step) is not int or step < 0 or manifest.get("step") != step or type(manifest["step"]) is not int:
        raise Damaged(f"{MANIFEST} and state.json do not name the same step")
    if _averages(state) not in (None, AVERAGE in files):
        raise Damaged(f"{AVERAGE} does not agree with ema_decay of state.json")
    return state


def _averages(state: dict[str, Any]) -> bool | None:
    """Return whether the run averages its weights; None if the state does not say."""
    identity = state.get("identity")
    return identity["ema_decay"] is not None if isinstance(identity, dict) and "ema_decay" in identity else None


def _verify_file(folder: Path, name: str, entry: object) -> None:
    expected = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    size, sha256 = expected
    if type(size) is not int or size < 0 or not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise Damaged(f"{MANIFEST} has no valid size and sha256 of {name}")
    with _as_damage(name):
        found = reread(lambda: (folder / name).stat())
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(f"{name} is not a regular file")
        if found.st_size != size:
            raise Damaged(f"{name} has {found.st_size} bytes instead of {size}")
        if file_sha256(folder / name) != sha256:
            raise Damaged(f"{name} does not have the sha256 of {MANIFEST}")


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises Damaged."""
    with _as_damage(path.name):
        found = reread(path.stat)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_JSON_BYTES:
            raise Damaged(f"{path.name} is not a file of at most {MOST_JSON_BYTES} bytes")
        content = reread(path.read_bytes)
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Damaged(f"{path.name} is not valid JSON") from None
    if not isinstance(value, dict):
        raise Damaged(f"{path.name} is not a JSON object")
    return value


@contextlib.contextmanager
def _as_damage(name: str) -> Iterator[None]:
    """Turn OSError into Damaged that names the file."""
    try:
        yield
    except OSError as error:
        raise Damaged(f"{name} cannot be read ({error.strerror or 'I/O error'})") from error


def _shown(name: str) -> str:
    """Return a name from a damaged file, short and printable."""
    return ascii(name[:40])


def pointed_at(pointer: Path) -> str:
    """Return the checkpoint's folder that the file `last` or `best` names. Raises StorageError."""
    with named_storage(pointer):
        name = pointer.read_bytes().strip().decode("utf-8", "replace")
    if not FOLDER.fullmatch(name):
        fix = "write the name of a folder of checkpoints/ into it, or give that folder itself"
        raise StorageError(str(pointer), "does not name a checkpoint", fix)
    return name


def list_checkpoints(root: Path) -> list[Path]:
    """Checkpoint folders, the last first; unverified."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if FOLDER.fullmatch(path.name)), reverse=True, key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def last_checkpoint(root: Path) -> Checkpoint | None:
    """The last checkpoint that verifies; damaged ones are named and passed over. StorageError if all are damaged."""
    with named_storage(root):
        folders = list_checkpoints(root)
        for path in folders:
            try:
                return Checkpoint(path, _state_of_step(path))
            except Damaged as damage:
                logger.warning("%s is damaged (%s): trying the one before", path, damage)
    if folders:
        raise StorageError(
            str(root), "no checkpoint is undamaged", "start from scratch with --resume never or another --name"
        )
    return None


def _state_of_step(path: Path) -> dict[str, Any]:
    """Return the verified state of the checkpoint of the step that its folder's name says. Raises Damaged."""
    state = _verified_state(path)
    if folder_name(state["step"]) != path.name:
        raise Damaged(f"it contains step {state['step']}")
    return state


def prune_checkpoints(root: Path, *, keep_last: int, keep: set[str]) -> None:
    """Delete all but the last `keep_last` and those named in `keep`, and what a crash left half written."""
    with named_storage(root):
        for path in list_checkpoints(root)[keep_last:]:
            if path.name not in keep:
                _remove(path)
        for path in root.glob(".tmp_*"):
            _remove(path)


def _remove(path: Path) -> None:
    """Delete a folder and all in it, or whatever else has its name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
