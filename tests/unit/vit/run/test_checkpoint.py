# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.errors import StorageError  # noqa: E402
from vit.run.checkpoint import find_fault, last_checkpoint, prune_checkpoints, save_checkpoint  # noqa: E402


def save(root: Path, step: int) -> Path:
    tensors = {"model": {"w": torch.full((100,), float(step))}, "optimizer": {"m": torch.ones(3)}}
    return save_checkpoint(root, tensors, {"step": step})


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_was_saved_is_loaded_and_nothing_else_lies_there(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 7
    assert torch.equal(found.load("model.pt")["w"], torch.full((100,), 7.0))
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000007"]
    assert {p.name for p in path.iterdir()} == {"model.pt", "optimizer.pt", "state.json", "MANIFEST.json"}


@pytest.mark.parametrize("name", ["model.pt", "optimizer.pt", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("spoil", [damage, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_damaged_last_one_is_named_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], Any], name: str
) -> None:
    save(tmp_path, 1)
    spoil(save(tmp_path, 2) / name)
    with caplog.at_level(logging.WARNING):
        found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step_00000002 is damaged" in caplog.text


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A change of the manifest's JSON."""

    def edit(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


MODEL = "model.pt"
MANIFESTS: dict[str, Callable[[Path], object]] = {
    "no files": edited(lambda of: of.update(files={})),
    "files that are a list": edited(lambda of: of.update(files=list(of["files"]))),
    "files that are null": edited(lambda of: of.update(files=None)),
    "no model": edited(lambda of: of["files"].pop(MODEL)),
    "no state": edited(lambda of: of["files"].pop("state.json")),
    "one file more": edited(lambda of: of["files"].update({"more.pt": of["files"][MODEL]})),
    "a path that leads out": edited(lambda of: of["files"].update({"../step_00000001/model.pt": of["files"][MODEL]})),
    "an absolute path": edited(lambda of: of["files"].update({"/dev/zero": of["files"][MODEL]})),
    "a control character": edited(lambda of: of["files"].update({"\x1b[2J": of["files"][MODEL]})),
    "an average that the folder lacks": edited(lambda of: of["files"].update({"ema.pt": of["files"][MODEL]})),
    "an entry that is a number": edited(lambda of: of["files"].update({MODEL: 1})),
    "a nested entry": edited(lambda of: of["files"].update({MODEL: {"bytes": {"bytes": 1}, "sha256": []}})),
    "a negative size": edited(lambda of: of["files"][MODEL].update(bytes=-1)),
    "a size that is a text": edited(lambda of: of["files"][MODEL].update(bytes=str(of["files"][MODEL]["bytes"]))),
    "a size that is a float": edited(lambda of: of["files"][MODEL].update(bytes=float(of["files"][MODEL]["bytes"]))),
    "a sha256 that is null": edited(lambda of: of["files"][MODEL].update(sha256=None)),
    "another step": edited(lambda of: of.update(step=1)),
    "no step": edited(lambda of: of.pop("step")),
    "a step that is true": edited(lambda of: of.update(step=True)),
    "a list": lambda path: path.write_text(f"[{path.read_text()}]"),
    "a text": lambda path: path.write_text('"files"'),
    "null": lambda path: path.write_text("null"),
    "100,000 lists": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "a number of 10,000 digits": lambda path: path.write_text("1" * 10_000),
    "not UTF-8": lambda path: path.write_bytes(b'{"files": "\xff"}'),
    "empty": lambda path: path.write_bytes(b""),
    "1 TB": lambda path: os.truncate(path, 10**12),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "a model that is a pipe": lambda path: ((path.parent / MODEL).unlink(), os.mkfifo(path.parent / MODEL)),
}


@pytest.mark.parametrize("spoil", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_not_exactly_right_is_damage_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    save(tmp_path, 1)
    spoil(save(tmp_path, 2) / "MANIFEST.json")
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    [record] = caplog.records
    sentence = r".*/step_00000002 is damaged \([\w.]+ [^()]*( \([^()]+\))?\): trying the one before"
    assert re.fullmatch(sentence, record.message), record.message
    assert record.message.isprintable()
    save(tmp_path, 2)
    assert find_fault(tmp_path / "step_00000002") is None, "saved again, it is whole"


def test_the_files_must_be_those_that_the_state_speaks_of(tmp_path: Path) -> None:
    state = {"step": 3, "identity": {"ema_decay": 0.9}}
    tensors: dict[str, dict[str, Any]] = {"model": {}, "optimizer": {}}
    assert find_fault(save_checkpoint(tmp_path, tensors, state)) == "ema.pt does not agree with ema_decay of state.json"
    assert find_fault(save_checkpoint(tmp_path, {**tensors, "ema": {}}, state)) is None


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2).rename(tmp_path / "step_00000009")
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_no_folder_is_made_for_a_run_whose_folder_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written or read"):
        save(tmp_path / "run/checkpoints", 1)
    assert not (tmp_path / "run").exists()


def test_what_only_has_the_name_of_a_checkpoint_is_pruned_too(tmp_path: Path) -> None:
    (tmp_path / "step_00000001").touch()
    (tmp_path / ".tmp_step_00000001").symlink_to(tmp_path)
    save(tmp_path, 2)
    prune_checkpoints(tmp_path, keep_last=1, keep=set())
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_only_damaged_ones_are_no_reason_to_start_anew_in_silence(tmp_path: Path) -> None:
    damage(save(tmp_path, 1) / "model.pt")
    with pytest.raises(StorageError, match="no checkpoint is undamaged"):
        last_checkpoint(tmp_path)


def test_a_damaged_one_is_replaced_when_its_step_is_saved_again(tmp_path: Path) -> None:
    damage(save(tmp_path, 1) / "model.pt")
    assert find_fault(save(tmp_path, 1)) is None


def test_pruning_keeps_the_last_and_the_best_and_removes_halves(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, step)
    (tmp_path / ".tmp_step_00000009").mkdir()
    prune_checkpoints(tmp_path, keep_last=2, keep={"step_00000003"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000003", "step_00000005", "step_00000006"]


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may pass 2 KiB: a full disk without a disk. Not for longer: pytest writes a log too."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_a_storage_error_and_leaves_the_checkpoints_before(tmp_path: Path) -> None:
    (tmp_path / "step_00000001").mkdir()
    with small_files(), pytest.raises(StorageError, match="step_00000002: cannot be written or read"):
        save_checkpoint(tmp_path, {"model": {"w": torch.ones(10_000)}}, {"step": 2})
    assert not (tmp_path / "step_00000002").exists()


def test_a_save_into_a_folder_that_was_replaced_at_the_last_moment_changes_nothing_there(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    root.mkdir()

    def replace() -> None:
        shutil.copytree(root, tmp_path / "copy")
        shutil.rmtree(root)
        (tmp_path / "copy").rename(root)

    with pytest.raises(StorageError):
        save_checkpoint(root, {"model": {"w": torch.ones(3)}}, {"step": 2}, confirm=replace)
    assert not (root / "step_00000002").exists()
