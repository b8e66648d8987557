# SPDX-License-Identifier: Apache-2.0
"""The monitor of a node and the launcher's watchdog, on real processes; a sleeping one stands in for a rank."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.test_supervision import lives, until
from vit.run.phases import SIZE, Phases
from vit.supervise.history import RunFiles
from vit.supervise.watchdog.monitor import Process, stopped
from vit.supervise.watchdog.monitors import LIMITS, LIVE, Watchdog

RANK = """
import os, subprocess, sys, time
from vit.run import phases
phases.start({"MPIKIT_STATE": sys.argv[2], "OMPI_COMM_WORLD_RANK": "3"})
phases.show_stacks({"MPIKIT_STATE": sys.argv[2]})
phases.enter("data")
loader = subprocess.Popen(["sleep", "1000"])
print(loader.pid, flush=True)
def wait_for_the_loader(): loader.wait()
wait_for_the_loader()
"""


@pytest.fixture
def rank(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Process ids of a process that looks like a rank, and of its loader."""
    words = [sys.executable, "-c", RANK, "vit.train", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        loader = int(process.stdout.readline())
        yield process.pid, loader
        for pid in (process.pid, loader):
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


class Monitored:
    """A monitor as the supervisor has it."""

    def __init__(self, state: Path, *more: str) -> None:
        words = [sys.executable, "-m", "vit.supervise.watchdog.monitor", str(state), "0.1", *more]
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self, wanted: Callable[[dict[str, Any]], object] = lambda _: True) -> dict[str, Any]:
        assert self.process.stdout is not None
        for _ in range(300):
            found: dict[str, Any] = json.loads(self.process.stdout.readline())
            if wanted(found):
                return found
        raise AssertionError("no such line")

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Callable[..., Monitored]]:
    started = []

    def start(*more: str) -> Monitored:
        started.append(Monitored(tmp_path, *more))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_line_has_the_state_of_each_rank(rank: tuple[int, int], monitor: Callable[..., Monitored]) -> None:
    line = monitor().line(lambda line: line["ranks"])
    number, pid, step, num_steps, phase, idle, *_, memory, device_memory = line["ranks"][0]
    assert (number, pid, step, num_steps, phase) == (3, rank[0], 0, 0, "first_batch")
    assert 0 <= idle < 60
    assert (memory > 1 << 20, device_memory) == (True, 0)
    assert line["stopped"] == []


def test_stopped_processes_are_named(rank: tuple[int, int], monitor: Callable[..., Monitored]) -> None:
    one = monitor()
    os.kill(rank[1], signal.SIGSTOP)
    assert one.line(lambda line: line["stopped"])["stopped"] == ["a loader process of rank 3"]
    os.kill(rank[0], signal.SIGSTOP)
    assert one.line(lambda line: len(line["stopped"]) == 2)["stopped"][0] == "rank 3"


def test_ranks_of_another_node_on_this_machine_are_left_out(
    rank: tuple[int, int], monitor: Callable[..., Monitored]
) -> None:
    assert monitor("0:3").line()["ranks"] == []
    assert len(monitor("3:6").line()["ranks"]) == 1


def test_a_heartbeat_whose_process_is_gone_or_is_another_one_now_is_left_out(
    tmp_path: Path, monitor: Callable[..., Monitored]
) -> None:
    (tmp_path / "heartbeats").mkdir()
    for pid in (os.getpid(), 4_194_304):
        Phases(buffer := bytearray(SIZE), pid=pid, rank=0)
        (tmp_path / "heartbeats" / str(pid)).write_bytes(buffer)
    assert monitor().line()["ranks"] == []


def test_the_stacks_of_a_rank_are_printed_while_it_waits(
    rank: tuple[int, int], monitor: Callable[..., Monitored]
) -> None:
    one = monitor()
    one.tell("stacks")
    assert "wait_for_the_loader" in one.line(lambda line: "stacks" in line)["stacks"]["3"]
    assert lives(rank[0])


def test_kill_ends_a_rank_and_what_it_started_though_both_are_stopped(
    rank: tuple[int, int], monitor: Callable[..., Monitored]
) -> None:
    one = monitor()
    for pid in rank:
        os.kill(pid, signal.SIGSTOP)
    one.tell("kill")
    until(lambda: not any(map(lives, rank)))


def test_it_ends_with_its_stdin_and_with_its_reader_without_a_word(monitor: Callable[..., Monitored]) -> None:
    first, second = monitor(), monitor()
    assert first.process.stdin
    first.process.stdin.close()
    assert first.process.wait(30) == 0
    assert second.process.stdout
    second.process.stdout.close()
    assert second.process.wait(30) == 0
    assert second.process.stderr
    assert second.process.stderr.read() == ""


def test_a_stopped_launcher_is_ended_and_named(tmp_path: Path) -> None:
    """With the agent of a node that gives nothing but the monitor's lines: no rank was started yet."""
    said: list[str] = []
    watchdog = Watchdog(RunFiles(tmp_path, "vit"), said.append, scale=0.05)
    (tmp_path / "vit").mkdir()
    child = subprocess.Popen(["sleep", "1000"])
    watchdog.begin(child.pid)
    script = f"cd {ROOT}; exec {sys.executable} -m vit.supervise.watchdog.monitor {tmp_path} 0.2"
    watchdog.plan.write_bytes(
        b"\0".join(map(str.encode, [str(tmp_path), "0", "3", "bash", "-c", script, "w-0"])) + b"\0"
    )
    os.kill(child.pid, signal.SIGSTOP)
    assert child.wait(60) == -signal.SIGKILL
    watchdog.end()
    assert said[0] == "the job hangs: sleep on the launcher is stopped (SIGSTOP)"
    assert watchdog.found == said[0].removeprefix("the job hangs: ")
    assert json.loads((tmp_path / "vit" / LIMITS).read_text())["longest_seconds"]["step"] == 0


def test_what_the_ranks_do_now_is_in_the_runs_folder_until_the_attempt_ends(
    tmp_path: Path, rank: tuple[int, int]
) -> None:
    watchdog = Watchdog(RunFiles(tmp_path, "vit"), lambda _: None, scale=0.05)
    (tmp_path / "vit").mkdir()
    watchdog.begin(os.getpid())
    script = f"cd {ROOT}; exec {sys.executable} -m vit.supervise.watchdog.monitor {tmp_path} 0.2"
    watchdog.plan.write_bytes(
        b"\0".join(map(str.encode, [str(tmp_path), "0", "3", "bash", "-c", script, "w-0"])) + b"\0"
    )
    live = tmp_path / "vit" / LIVE
    until(lambda: live.exists() and json.loads(live.read_text())["ranks"])
    record = json.loads(live.read_text())
    assert [(row["rank"], row["host"], row["phase"]) for row in record["ranks"]] == [(3, "w-0", "first_batch")]
    assert record["ranks"][0]["memory_bytes"] > 1 << 20
    watchdog.end()
    watchdog.close()
    assert not live.exists()


def test_an_attempt_that_ends_before_the_ranks_start_leaves_nothing(tmp_path: Path) -> None:
    watchdog = Watchdog(RunFiles(tmp_path, "vit"), lambda _: None)
    watchdog.begin(os.getpid())
    watchdog.end()
    assert (watchdog.found, list(tmp_path.iterdir())) == ("", [])


def test_a_stopped_daemon_is_named_after_its_ranks_have_ended() -> None:
    table = {5: Process("orted", "T", 1), 6: Process("prterun_wrapper", "T", 1), 7: Process("bash", "T", 1)}
    assert stopped([], table, {5: 3, 7: 4, 8: 5}) == ["orted, the daemon of rank 3"]
    assert stopped([], table | {5: Process("orted", "S", 1)}, {5: 3}) == []
