# SPDX-License-Identifier: Apache-2.0
"""How the rendered scripts end: success is proved by the completion record, and a rank ends with its daemon.

mpirun, ssh and the trainer are stand-ins, which can be made to fail at will; tests/integration and tests/e2e lose real
daemons and nodes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.config.job import Job
from mpikit.local import AGENT
from mpikit.render.payload import Payload
from mpikit.render.renderer import render
from tests.support.stage import LEAVE_RECORD, Stage

STALE = LEAVE_RECORD.replace("$MPIKIT_ATTEMPT", "00000000-0000-4000-8000-000000000000")
COPY = LEAVE_RECORD.replace("$MPIKIT_STATE", "$MPIKIT_OUTPUT/run")
NO_ANSWER = AGENT.replace("exec sh", 'case "$*" in *completion*) echo refused >&2; exit 255 ;; esac\nexec sh')
FIRST_TIME_NONE = AGENT.replace(
    "exec sh", 'case "$*" in *completion*) test -e once || { touch once; exit 255; } ;; esac\nexec sh'
)
SILENT = AGENT.replace("exec sh", 'case "$*" in *completion*) exec sleep 60 ;; esac\nexec sh')


@pytest.fixture
def made(tmp_path: Path, make_job: Callable[..., Job]) -> Stage:
    job = make_job("train.name=run")
    stage = Stage(tmp_path, job, render(job, Payload({"vit/__init__.py": b"", "vit/train.py": b""})))
    shorten(stage, "run_vit.sh", "answer_seconds=15", "answer_seconds=1")
    shorten(stage, "run_vit.sh", "sleep 2", "sleep 0.1")
    shorten(stage, "rank.sh", "save_seconds=8", "save_seconds=2")
    return stage


def shorten(stage: Stage, script: str, old: str, new: str) -> None:
    """Make a limit of a script smaller."""
    text = (stage.folder / "kit" / script).read_text()
    assert old in text
    stage.write(f"kit/{script}", text.replace(old, new))


def ended(made: Stage) -> tuple[int, str]:
    done = made.run()
    return done.returncode, done.stderr.decode()


def test_an_exit_code_0_with_the_record_of_this_attempt_is_success(made: Stage) -> None:
    code, told = ended(made)
    assert (code, "the run is complete" in told) == (0, True), told


@pytest.mark.parametrize(
    "ranks", ["exit 0", STALE, STALE + "\n" + STALE.replace("$MPIKIT_STATE", "$MPIKIT_OUTPUT/run")]
)
def test_an_exit_code_0_without_the_record_of_this_attempt_is_exit_6(made: Stage, ranks: str) -> None:
    made.write("output/run/last", "step_00000120\n")
    made.program(ranks)
    code, told = ended(made)
    assert code == 6
    assert "the run is complete" not in told
    assert "rank 0 left no completion record (last checkpoint: step_00000120)" in told


@pytest.mark.parametrize("agent", [NO_ANSWER, SILENT])
def test_a_record_that_cannot_be_read_proves_nothing(made: Stage, agent: str) -> None:
    made.write("bin/agent", agent)
    began = time.monotonic()
    code, told = ended(made)
    assert (code, "the completion record cannot be read: w-0 does not answer" in told) == (6, True), told
    assert time.monotonic() - began < 60


def test_one_connection_that_fails_costs_nothing(made: Stage) -> None:
    made.write("bin/agent", FIRST_TIME_NONE)
    assert ended(made)[0] == 0


def test_the_copy_in_output_is_a_second_proof(made: Stage) -> None:
    (made.folder / "output" / "run").mkdir()
    made.write("bin/agent", NO_ANSWER)
    made.program(COPY)
    assert ended(made)[0] == 0


def test_two_attempts_have_two_names(made: Stage) -> None:
    made.program(f'echo "$MPIKIT_ATTEMPT"\n{LEAVE_RECORD}')
    assert made.run().stdout != made.run().stdout


@pytest.mark.parametrize("mpiruns", [205, 255])
def test_a_lost_daemon_that_mpirun_tells_of_is_exit_6_too(made: Stage, mpiruns: int) -> None:
    made.program(f"exit {mpiruns}")
    code, told = ended(made)
    assert (code, "lost the daemon of a node" in told) == (6, True), told


# Stand-ins for the trainer: one saves when it is asked to, the other hangs and hears nothing.
SAVES = "trap 'echo saved >saved; exit 143' USR1\n"
HANGS = "trap '' USR1 TERM\n"
TRAINER = '#!/bin/bash\n{}echo $$ >"$MPIKIT_STATE/started"\nwhile :; do sleep 0.1; done\n'


@pytest.mark.parametrize("trap", [SAVES, HANGS])
def test_a_rank_ends_within_seconds_of_its_daemon(made: Stage, trap: str) -> None:
    made.environment["MPIKIT_PYTHON"] = str(made.write("trainer", TRAINER.format(trap)))
    command = ["bash", "-c", 'bash "$1" --name x & wait', "daemon", str(made.folder / "kit" / "rank.sh")]
    started = made.folder / "state" / "started"
    with subprocess.Popen(command, env=made.environment, start_new_session=True) as daemon:
        wait_for(lambda: started.exists() and started.read_text(), 30)
        rank = int(started.read_text())
        time.sleep(2)
        assert lives(rank), "its daemon lives"
        daemon.kill()
    began = time.monotonic()
    wait_for(lambda: not lives(rank), 30)
    assert time.monotonic() - began < 15
    assert (made.folder / "kit" / "saved").exists() == (trap == SAVES)


def test_what_watches_for_the_daemon_ends_with_the_rank_and_outlives_its_signals(made: Stage) -> None:
    made.environment["MPIKIT_PYTHON"] = str(made.write("trainer", TRAINER.format("trap '' TERM\ntrap 'exit 3' USR1\n")))
    command = ["bash", str(made.folder / "kit" / "rank.sh"), "--name", "x"]
    started = made.folder / "state" / "started"
    with subprocess.Popen(command, env=made.environment, start_new_session=True) as rank:
        wait_for(started.exists, 30)
        os.killpg(rank.pid, signal.SIGTERM)
        time.sleep(1)
        watchers = [pid for pid in group(rank.pid) if pid != rank.pid and b"rank.sh" in words(pid)]
        assert len(watchers) == 1
        rank.send_signal(signal.SIGUSR1)
        assert rank.wait(30) == 3
        wait_for(lambda: not words(watchers[0]), 10)


def wait_for(true: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def words(pid: int) -> bytes:
    """The command line; empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def lives(pid: int) -> bool:
    return bool(words(pid))


def group(leader: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _group_of(pid) == leader]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1
