# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are written beside training: what they contain, who waits, and where an error shows."""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.errors import LockedError, StorageError  # noqa: E402
from vit.run.checkpoint import find_fault, last_checkpoint, save_checkpoint  # noqa: E402
from vit.run.folder import RunFolder  # noqa: E402
from vit.run.saver import Saver  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    """The folder of a run, held."""
    made = RunFolder(tmp_path / "run")
    made.acquire()
    yield made
    made.release()


@pytest.fixture
def saver(folder: RunFolder) -> Saver:
    """A saver that keeps two checkpoints."""
    return Saver(folder, Device(Ranks()), keep_checkpoints=2)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Storage whose fsync waits for this event, as a busy one does for minutes."""
    answers, fsync = threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            answers.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    yield answers
    answers.set()


def state(step: int, best: int | None = None) -> dict[str, Any]:
    return {"step": step, "best": None if best is None else {"step": best, "top1_percent": 50.0}}


def tensors(value: float) -> dict[str, dict[str, Any]]:
    return {"model": {"w": torch.full((1000,), value)}, "optimizer": {"m": torch.full((1000,), value)}}


def test_training_goes_on_while_storage_is_slow_and_does_not_change_what_is_saved(
    folder: RunFolder, saver: Saver, storage: threading.Event
) -> None:
    live = tensors(1.0)
    saver.save(live, state(5))
    live["model"]["w"].fill_(2)
    live["optimizer"]["m"].fill_(2)
    saver.raise_if_failed()
    assert not (folder.path / "last").exists()
    storage.set()
    saver.finish()
    found = last_checkpoint(folder.checkpoints)
    assert found is not None
    assert torch.equal(found.load("model.pt")["w"], torch.ones(1000))
    assert torch.equal(found.load("optimizer.pt")["m"], torch.ones(1000))
    assert (folder.path / "last").read_text() == "step_00000005\n"
    events = [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in events] == [("checkpoint", 5)]


def test_the_next_save_waits_for_the_one_before(folder: RunFolder, saver: Saver, storage: threading.Event) -> None:
    saver.save(tensors(1.0), state(1))
    threading.Timer(0.1, storage.set).start()
    saver.save(tensors(2.0), state(2, best=1))
    assert find_fault(folder.checkpoints / "step_00000001") is None
    saver.save(tensors(3.0), state(3, best=1))
    saver.save(tensors(4.0), state(4, best=1))
    saver.finish()
    kept = sorted(path.name for path in folder.checkpoints.iterdir())
    assert kept == ["step_00000001", "step_00000003", "step_00000004"]
    assert [(folder.path / name).read_text() for name in ("last", "best")] == ["step_00000004\n", "step_00000001\n"]


def move(folder: RunFolder) -> None:
    folder.path.rename(folder.path.with_name("elsewhere"))


def look_until_it_shows(saver: Saver) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        saver.raise_if_failed()


@pytest.mark.parametrize(
    "notice",
    [look_until_it_shows, Saver.finish, lambda saver: saver.save(tensors(2.0), state(2))],
    ids=["raise_if_failed", "finish", "save"],
)
def test_an_error_of_the_storage_ends_the_run_where_it_next_looks(
    folder: RunFolder, saver: Saver, storage: threading.Event, notice: Callable[[Saver], None]
) -> None:
    saver.save(tensors(1.0), state(1))
    move(folder)
    storage.set()
    with pytest.raises(StorageError, match="deleted, renamed or unmounted"):
        notice(saver)
    assert not folder.path.exists()


def fail_in_another_way(_saver: Saver) -> None:
    raise MemoryError("no memory for the file")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(move, "deleted, renamed or unmounted"), (None, "no memory for the file")],
    ids=["moved", "memory"],
)
def test_after_another_failure_an_error_of_the_write_is_a_warning(
    folder: RunFolder,
    saver: Saver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[RunFolder], None] | None,
    said: str,
) -> None:
    if spoil is None:
        monkeypatch.setattr("vit.run.saver.save_checkpoint", lambda *_, **__: fail_in_another_way(saver))
    else:
        monkeypatch.setattr(folder, "sync_metrics", lambda: spoil(folder))
    saver.save(tensors(1.0), state(1))
    with caplog.at_level(logging.WARNING):
        saver.finish_after_failure()
    assert said in caplog.text


def test_after_another_failure_a_slow_write_is_abandoned_and_never_gets_its_name(
    folder: RunFolder, saver: Saver, storage: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vit.run.saver.LAST_SECONDS", 0.05)
    saver.save(tensors(1.0), state(1))
    saver.finish_after_failure()
    folder.release()
    with pytest.raises(LockedError):
        RunFolder(folder.path).acquire()
    storage.set()
    assert saver.background.ends_within(60)
    assert last_checkpoint(folder.checkpoints) is None


def test_without_memory_for_a_copy_the_checkpoint_is_written_at_once_and_a_warning_says_so(
    folder: RunFolder, saver: Saver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_arguments: object, **_options: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", none)
    live = tensors(1.0)
    saver.prepare(live)
    with caplog.at_level(logging.WARNING):
        saver.save(live, state(1))
    assert find_fault(folder.checkpoints / "step_00000001") is None
    assert "training waits for each checkpoint" in caplog.text


def open_files() -> list[str]:
    """What the descriptors of this process lead to."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this loop
            found.append(str(link.readlink()))
    return found


def test_a_process_that_is_forked_during_a_write_has_none_of_its_files_open(tmp_path: Path) -> None:
    """On NFS a pruned checkpoint could not be deleted while such a process lives."""
    found: list[list[str]] = []

    def fork() -> None:
        ours, theirs = os.pipe()
        if not (child := os.fork()):
            try:
                os.write(theirs, "\n".join(open_files()).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        found.append(os.read(ours, 2**16).decode().splitlines())
        os.close(ours)
        os.close(theirs)

    path = save_checkpoint(tmp_path, tensors(1.0), {"step": 1}, on_progress=fork)
    assert len(found) > 4
    assert [name for names in found for name in names if str(tmp_path) in name] == []
    assert find_fault(path) is None


def test_bytes_that_the_storage_changed_never_become_a_checkpoint(tmp_path: Path) -> None:
    def spoil() -> None:
        for file in tmp_path.glob(".tmp_*/optimizer.pt"):
            content = bytearray(file.read_bytes())
            if len(content) > 4000:
                content[2000] ^= 1
                file.write_bytes(content)

    with pytest.raises(StorageError, match=r"differs from what was written \(optimizer.pt"):
        save_checkpoint(tmp_path, tensors(1.0), {"step": 1}, on_progress=spoil)
    assert last_checkpoint(tmp_path) is None
