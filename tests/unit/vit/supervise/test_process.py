# SPDX-License-Identifier: Apache-2.0
"""An attempt as a real process: its code, its lines, its stop, and what outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.test_supervision import lives, until


def supervise(tmp_path: Path, script: str, *flags: str) -> subprocess.Popen[str]:
    words = ["--output", str(tmp_path), "--run", "vit", "--max", "5", "--wait_seconds", "9", *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "vit.supervise", *words, "--", "bash", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_default_signals,
    )


def with_default_signals() -> None:
    """A test run that nohup or `&` started ignores them, and so would the supervisor."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 2", 2), ("exit 8", 8)])
def test_the_exit_code_is_that_of_the_command(script: str, code: int, tmp_path: Path) -> None:
    assert supervise(tmp_path, script).wait(30) == code


def test_no_temporary_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    out, _ = supervise(tmp_path, "ls $TMPDIR").communicate(timeout=30)
    assert out.startswith("mpikit-watch-")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_output_and_errors_stay_apart_and_whole(tmp_path: Path) -> None:
    out, err = supervise(tmp_path, "printf 'a\\nhalf'; echo b >&2").communicate(timeout=30)
    assert (out, err) == ("a\nhalf", "b\n")


def test_a_megabyte_passes_through(tmp_path: Path) -> None:
    out, _ = supervise(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x").communicate(timeout=60)
    assert len(out) == 3_000_000


def test_it_is_run_again_after_a_lost_rank(tmp_path: Path) -> None:
    script = f"echo x >>{tmp_path}/runs; [ $(wc -l <{tmp_path}/runs) = 2 ] || kill -9 $$; echo $MPIKIT_RESTART"
    process = supervise(tmp_path, script)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "1\n")
    assert "run_vit.sh: attempt 1 ended after 0 s: a rank or node was lost (exit code 137)" in err
    assert "run_vit.sh: attempt 2 of 6 starts in" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_reaches_the_command_as_term(number: int, tmp_path: Path) -> None:
    script = f"trap 'echo stopping; exit 143' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done"
    process = supervise(tmp_path, script)
    until(lambda: (tmp_path / "up").exists())
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, "stopping\n")


def test_a_stop_during_the_pause_ends_at_once(tmp_path: Path) -> None:
    process = supervise(tmp_path, f"touch {tmp_path}/ran; exit 6")
    assert process.stderr
    until(lambda: (tmp_path / "vit" / "attempts.jsonl").exists())
    time.sleep(0.3)
    process.terminate()
    assert process.wait(10) == 143


def test_a_mpirun_whose_script_was_killed_is_stopped_before_the_next_attempt(tmp_path: Path) -> None:
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(
        f"#!/bin/bash\ntrap 'echo ended >>{tmp_path}/log; exit' TERM\necho $$ >{tmp_path}/pid\n"
        "while :; do sleep 0.1; done\n"
    )
    mpirun.chmod(0o755)
    script = (
        f"if [ -e {tmp_path}/pid ]; then echo second >>{tmp_path}/log; exit 0; fi; "
        f"{mpirun} & until [ -s {tmp_path}/pid ]; do sleep 0.05; done; kill -9 $$"
    )
    assert supervise(tmp_path, script).wait(60) == 0
    assert (tmp_path / "log").read_text().split() == ["ended", "second"]


def test_what_ignores_term_is_killed(tmp_path: Path) -> None:
    stubborn = f"trap '' TERM; echo $BASHPID >{tmp_path}/pid; while :; do sleep 0.2; done"
    script = f'setsid bash -c "{stubborn}" & until [ -s {tmp_path}/pid ]; do sleep 0.05; done; exit 2'
    process = supervise(tmp_path, script.replace("$BASHPID", "\\$BASHPID"))
    assert process.wait(60) == 2
    assert not lives(int((tmp_path / "pid").read_text()))


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    process = supervise(tmp_path, f"for i in $(seq 2000); do echo line $i; done; touch {tmp_path}/done")
    assert process.stdout
    process.stdout.close()
    assert process.wait(60) == 0
    assert (tmp_path / "done").exists()
