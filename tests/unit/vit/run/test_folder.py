# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT
from vit.errors import LockedError, StorageError
from vit.run.folder import RunFolder

HOLD = """
import sys, pathlib
from vit.run.folder import RunFolder
folder = RunFolder(pathlib.Path(sys.argv[1])); folder.acquire(); print("held", flush=True); sys.stdin.read()
"""


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LockedError, match=rf"is in use by host .* pid {holder.pid}"):
        RunFolder(tmp_path).acquire()
    holder.communicate(b"")
    RunFolder(tmp_path).acquire()  # the lock went with its process


def test_metrics_after_the_checkpoint_and_a_cut_off_line_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.add_metrics(json.dumps({"step": step}))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    folder.trim_metrics(2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_an_earlier_run_is_renamed_and_never_lost(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for number in (1, 2):
        folder.acquire()
        folder.write_config({"number": number})
        assert folder.set_aside() == tmp_path / f"run.previous-{number}"
    assert json.loads((tmp_path / "run.previous-2/config.json").read_text()) == {"number": 2}
    assert folder.set_aside() is None


def test_each_attempt_has_a_log_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first = folder.next_log()
    first.touch()
    assert [first.name, folder.next_log().name] == ["001.log", "002.log"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/run: cannot be written or read"):
        RunFolder(tmp_path / "file" / "run").acquire()
