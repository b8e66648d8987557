# SPDX-License-Identifier: Apache-2.0
"""A command under supervision: its exit code, its end with its starter's, and folders that do not pile up."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.errors import ValuesError
from mpikit.render.folders import HELD, PREFIX, clear_stale, refuse_system_folder, work_folder
from mpikit.supervision import run_supervised
from tests.conftest import ROOT, Command

OLD = time.time() - 3600


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_that_of_the_command(script: str, code: int) -> None:
    assert run_supervised(["sh", "-c", script], os.environ) == (code, False)


def test_what_outlives_the_command_is_ended(tmp_path: Path) -> None:
    script = (
        f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 300' & until [ -s {tmp_path}/pid ]; do sleep 0.05; done"
    )
    assert run_supervised(["sh", "-c", script], os.environ) == (0, False)
    assert not lives(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM HUP INT;"])
def test_kill_9_of_the_starter_ends_a_daemon_and_one_that_ignores_term(stubborn: str, tmp_path: Path) -> None:
    daemon = f"{stubborn} echo $$ >{tmp_path}/daemon; while :; do sleep 1; done"
    script = f'setsid sh -c "{daemon}" & {stubborn} echo $$ >{tmp_path}/command; wait; wait'
    program = "import os, sys; from mpikit.supervision import run_supervised; run_supervised(sys.argv[1:], os.environ)"
    with subprocess.Popen([sys.executable, "-c", program, "sh", "-c", script], cwd=ROOT) as starter:
        until(
            lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in ("daemon", "command"))
        )
        starter.kill()
    pids = [int((tmp_path / name).read_text()) for name in ("daemon", "command")]
    until(lambda: not any(map(lives, pids)))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def stale(parent: Path, name: str, mode: int = 0o700, changed: float = OLD) -> Path:
    folder = parent / f"{PREFIX}{name}"
    folder.mkdir()
    (folder / HELD).touch()
    (folder / "kit").mkdir()
    folder.chmod(mode)
    os.utime(folder, (changed, changed))
    return folder


def test_folders_of_dead_runs_are_removed_and_no_others(tmp_path: Path) -> None:
    dead, held = stale(tmp_path, "dead"), stale(tmp_path, "held")
    kept = [held, stale(tmp_path, "young", changed=time.time()), stale(tmp_path, "open", mode=0o777)]
    (tmp_path / f"{PREFIX}link").symlink_to(held)
    (tmp_path / f"{PREFIX}file").touch()
    with (held / HELD).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert clear_stale(tmp_path) == [dead]
    assert all(folder.exists() for folder in kept)
    assert (tmp_path / f"{PREFIX}link").is_symlink()


def test_a_folder_in_use_is_held_and_removed_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with work_folder() as (folder, _):
        os.utime(folder, (OLD, OLD))
        assert clear_stale(tmp_path) == []
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


@pytest.mark.parametrize("folder", ["/", "//", "/etc", "/usr/share/x", "/home", "/tmp", "/var", "/proc/self", "~"])
def test_run_refuses_an_output_of_the_system_before_it_looks_for_mpirun(
    folder: str, generate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpikit.local.shutil.which", lambda *_, **__: None)
    place = str(Path(folder).expanduser()) if folder == "~" else folder
    done = generate("run", "--no-user-file", "-f", "cpu.yaml", "--set", f"output={place}")
    assert done.returncode == 2, done.stderr
    assert "belongs to the system or to others" in done.stderr


@pytest.mark.parametrize("folder", ["/tmp/mine", "/dev/shm/mine", "/home/ada", "/data", "/srv/me/results"])
def test_a_folder_of_ones_own_is_taken(folder: str) -> None:
    refuse_system_folder("output", folder)


def test_a_link_to_the_root_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(ValuesError):
        refuse_system_folder("output", str(tmp_path / "link"))
