"""Checkpoints: folders step_<8 digits> with model.pt, optimizer.pt, state.json and MANIFEST.json (sha256, bytes).

Where a run averages its weights, the average is in ema.pt.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vit.errors import StorageError
from vit.storage import HashingFile, file_sha256, named_storage, sync_folder, write_atomic

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
FOLDER = re.compile(r"step_\d{8,}")


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
            return torch.load(self.path / file, map_location="cpu", weights_only=True)
        except OSError as error:
            fix = "--output_dir must be one folder that all nodes share"
            raise StorageError(str(self.path / file), f"cannot be read on this rank ({error})", fix) from error


def folder_name(step: int) -> str:
    """step_00001000 for 1000."""
    return f"step_{step:08d}"


def save_checkpoint(root: Path, tensors: dict[str, dict[str, Any]], state: dict[str, Any]) -> Path:
    """Write a checkpoint, whole or not at all, under root; returns its folder. Raises StorageError.

    `tensors` maps model, optimizer and ema to what goes into the .pt file of that name.
    """
    final = root / folder_name(state["step"])
    temporary = root / f".tmp_{final.name}"
    with named_storage(final):
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        files = {f"{name}.pt": _save_tensors(temporary / f"{name}.pt", content) for name, content in tensors.items()}
        write_atomic(temporary / "state.json", json.dumps(state, indent=1))
        files["state.json"] = _entry(temporary / "state.json")
        write_atomic(temporary / MANIFEST, json.dumps({"step": state["step"], "files": files}, indent=1))
        sync_folder(temporary)
        if final.exists():  # a damaged one of the same step
            shutil.rmtree(final)
        temporary.rename(final)
        sync_folder(root)
    return final


def _save_tensors(path: Path, tensors: dict[str, Any]) -> dict[str, Any]:
    with path.open("wb") as file:
        hashing = HashingFile(file)
        try:
            torch.save(tensors, hashing)  # type: ignore[arg-type]  # torch needs write and flush only
        except RuntimeError as error:
            raise hashing.error or OSError(str(error)) from error
        file.flush()
        os.fsync(file.fileno())
    return {"sha256": hashing.digest.hexdigest(), "bytes": hashing.num_bytes}


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if every file is as the manifest says."""
    try:
        files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, entry in files.items():
            size = (path / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes instead of {entry['bytes']}"
            if file_sha256(path / name) != entry["sha256"]:
                return f"{name} does not have the sha256 of {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} or a file that it names cannot be read ({error})"
    return None


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
            fault = find_fault(path)
            if fault is None:
                return Checkpoint(path, json.loads((path / "state.json").read_text(encoding="utf-8")))
            logger.warning("%s is damaged (%s): trying the one before", path, fault)
    if folders:
        raise StorageError(str(root), "no checkpoint is whole", "start anew with --resume never or another --name")
    return None


def prune_checkpoints(root: Path, *, keep_last: int, keep: set[str]) -> None:
    """Delete all but the last `keep_last` and those named in `keep`, and what a crash left half written."""
    with named_storage(root):
        for path in list_checkpoints(root)[keep_last:]:
            if path.name not in keep:
                shutil.rmtree(path)
        for path in root.glob(".tmp_*"):
            shutil.rmtree(path)
