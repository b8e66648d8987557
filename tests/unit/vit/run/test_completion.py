# SPDX-License-Identifier: Apache-2.0
"""The completion record: who writes it, where, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.running import Result
from vit.errors import StorageError
from vit.run.completion import leave_record


def record(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "completion.json").read_text())
    return found


def test_the_record_is_in_the_state_folder_and_beside_the_run(tmp_path: Path) -> None:
    leave_record({"MPIKIT_ATTEMPT": "a1", "MPIKIT_STATE": str(tmp_path / "state")}, tmp_path / "run", 7)
    assert record(tmp_path / "state") == record(tmp_path / "run") == {"attempt": "a1", "run": "run", "step": 7}


def test_without_a_launcher_there_is_no_record(tmp_path: Path) -> None:
    leave_record({"MPIKIT_STATE": str(tmp_path)}, tmp_path, 7)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("good", ["state", "run"])
def test_one_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, good: str, caplog: pytest.LogCaptureFixture
) -> None:
    (bad := tmp_path / ({"state", "run"} - {good}).pop()).write_text("no folder")
    leave_record({"MPIKIT_ATTEMPT": "a1", "MPIKIT_STATE": str(tmp_path / "state")}, tmp_path / "run", 7)
    assert record(tmp_path / good)["attempt"] == "a1"
    assert str(bad) in caplog.text


def test_no_folder_that_can_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"completion\.json"):
        leave_record({"MPIKIT_ATTEMPT": "a1", "MPIKIT_STATE": str(tmp_path / "file")}, tmp_path / "file", 7)


def test_every_complete_end_of_the_trainer_leaves_the_record_of_its_own_attempt(
    here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPIKIT_STATE", str(tmp_path / "state"))
    ends = {"trained": (), "complete already": (), "evaluated": ("--eval_only",)}
    for attempt, flags in ends.items():
        monkeypatch.setenv("MPIKIT_ATTEMPT", attempt)
        assert here("--name", "run", *flags).code == 0
        assert record(tmp_path / "state") == {"attempt": attempt, "run": "run", "step": 12}
        assert record(tmp_path / "run")["attempt"] == attempt


def test_an_end_that_is_not_complete_leaves_no_record(
    here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPIKIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MPIKIT_ATTEMPT", "a1")
    assert here("--name", "run", "--learning_rate", "1e30", "--max_grad_norm", "1e30").code == 5
    assert not list(tmp_path.rglob("completion.json"))
