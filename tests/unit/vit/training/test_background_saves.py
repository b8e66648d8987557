# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed, stopped or lose their disk while a checkpoint is written beside their steps."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import finish, last_file, metric_rows, start_ranks, write_images

# Stands in for storage that needs 0.4 s to sync a file, or that is full, where a thread writes.
STORAGE = """
import errno, os, threading, time
fsync = os.fsync
def slow(descriptor):
    if threading.current_thread() is not threading.main_thread():
        {what}
    fsync(descriptor)
os.fsync = slow
"""
SLOW = "time.sleep(0.4)"
FULL = """if ".tmp_step_" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))"""
FLAGS = (
    "--name",
    "a",
    "--num_steps",
    "40",
    "--save_every",
    "5",
    "--eval_every",
    "20",
    "--log_every",
    "1",
    "--keep_checkpoints",
    "99",
)
WAIT_SECONDS = 240

Start = Callable[..., list[subprocess.Popen[str]]]
Result = tuple[bytes, list[dict[str, float | None]]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes."""
    return write_images(tmp_path_factory.mktemp("data"), num_train=64)


@pytest.fixture
def start(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start two ranks on slow, full or sound storage."""

    def starting(what: str | None) -> list[subprocess.Popen[str]]:
        with monkeypatch.context() as patch:
            if what is not None:
                (tmp_path / "stand-in").mkdir(exist_ok=True)
                (tmp_path / "stand-in" / "sitecustomize.py").write_text(STORAGE.replace("{what}", what))
                patch.setenv("MPIKIT_TEST_PATH", str(tmp_path / "stand-in"))
            return start_ranks(2, *FLAGS, "--data_path", str(data), "--output_dir", str(tmp_path / "out"))

    return starting


def steps_of(run: Path) -> list[int]:
    """Steps of the metric lines that are complete."""
    path = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def wait_for_a_write_behind_the_steps(run: Path) -> int:
    """Wait until a checkpoint is being written while later steps are done; return its step."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        for folder in run.glob("checkpoints/.tmp_step_*"):
            step = int(folder.name.rpartition("_")[2])
            if any(done > step for done in steps_of(run)) and folder.exists():
                return step
        time.sleep(0.01)
    raise AssertionError("no step was done while a checkpoint was written")


def result(run: Path) -> Result:
    """Weights and metric lines of a complete run."""
    return last_file(run, "model.pt").read_bytes(), metric_rows(run)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of the run that nothing disturbs."""
    root = tmp_path_factory.mktemp("whole")
    ranks = finish(start_ranks(2, *FLAGS, "--data_path", str(data), "--output_dir", str(root)))
    assert [rank.code for rank in ranks] == [0, 0], ranks
    return result(root / "a")


def test_a_kill_during_a_write_resumes_bit_identically(start: Start, tmp_path: Path, undisturbed: Result) -> None:
    ranks = start(SLOW)
    step = wait_for_a_write_behind_the_steps(tmp_path / "out/a")
    for rank in ranks:
        rank.kill()
    finish(ranks)
    assert not (tmp_path / f"out/a/checkpoints/step_{step:08d}").exists()
    assert [rank.code for rank in finish(start(None))] == [0, 0]
    assert result(tmp_path / "out/a") == undisturbed


def test_a_stop_during_a_write_waits_for_it_and_loses_no_step(
    start: Start, tmp_path: Path, undisturbed: Result
) -> None:
    ranks = start(SLOW)
    run = tmp_path / "out/a"
    step = wait_for_a_write_behind_the_steps(run)
    ranks[1].send_signal(signal.SIGTERM)
    assert [rank.code for rank in finish(ranks)] == [143, 143]
    stopped = int((run / "last").read_text().strip().rpartition("_")[2])
    assert stopped == steps_of(run)[-1]
    assert stopped > step
    assert (run / f"checkpoints/step_{step:08d}/MANIFEST.json").exists()
    assert [rank.code for rank in finish(start(None))] == [0, 0]
    assert result(run) == undisturbed


def test_a_disk_that_is_full_during_a_write_ends_the_run_with_one_line(start: Start, tmp_path: Path) -> None:
    first, second = finish(start(FULL))
    assert first.code == 7, first
    assert "checkpoints/step_00000005: cannot be written or read (No space left on device)" in first.err
    assert "Traceback" not in first.err + second.err
    assert second.code != 0
    assert not (tmp_path / "out/a/last").exists()
