from __future__ import annotations

import contextlib
import logging
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.checkpoint import find_fault, last_checkpoint, prune_checkpoints, save_checkpoint  # noqa: E402
from vit.errors import StorageError  # noqa: E402


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


def test_only_damaged_ones_are_no_reason_to_start_anew_in_silence(tmp_path: Path) -> None:
    damage(save(tmp_path, 1) / "model.pt")
    with pytest.raises(StorageError, match="no checkpoint is whole"):
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
