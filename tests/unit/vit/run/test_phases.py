# SPDX-License-Identifier: Apache-2.0
"""The heartbeat: which phase takes the time, what the file of a rank says, and what a run leaves in events.jsonl."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import Result
from vit.run import phases
from vit.run.phases import PHASES, SIZE, Heartbeat, Phases, heartbeat_of


class Clock:
    """CLOCK_MONOTONIC, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture(autouse=True)
def _without_a_heartbeat_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "_mine", None)


def read(buffer: Any) -> Heartbeat:
    found = heartbeat_of(bytes(buffer))
    assert found is not None
    return found


def test_each_second_belongs_to_the_phase_that_was_current(clock: Clock) -> None:
    buffer = bytearray(SIZE)
    rank = Phases(buffer, pid=7, rank=3, age_seconds=2)
    for name, seconds in (("load", 5), ("data", 20), ("step", 60), ("data", 1)):
        clock.now += 1
        rank.enter(name)
        clock.now += seconds
        if name == "step":
            rank.stepped(401)
    found = read(buffer)
    assert (found.pid, found.rank, found.step, found.num_steps, found.phase) == (7, 3, 401, 1, "data")
    wanted = {"init": 3, "load": 6, "first_batch": 21, "compile": 60, "step": 1, "data": 1}
    assert found.seconds(clock.now) == {name: wanted.get(name, 0) for name in PHASES}
    assert sum(found.seconds(clock.now).values()) == clock.now - found.started


def test_the_longest_time_without_progress_ends_at_each_beat(clock: Clock) -> None:
    rank = Phases(buffer := bytearray(SIZE), pid=7, rank=0)
    rank.enter("eval")
    for seconds in (4, 30, 2):
        clock.now += seconds
        rank.beat()
    found = read(buffer)
    assert (found.longest["eval"], found.totals["eval"], found.progress) == (30, 36, clock.now)


def test_the_phase_before_comes_back_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = Phases(buffer := bytearray(SIZE), pid=7, rank=0)
    monkeypatch.setattr(phases, "_mine", rank)

    def fail() -> None:
        assert read(buffer).phase == "save"
        raise KeyError

    with pytest.raises(KeyError), phases.during("save"):
        fail()
    assert read(buffer).phase == "init"


def test_a_rank_keeps_its_numbers_in_a_file_on_the_node(tmp_path: Path) -> None:
    began = time.monotonic()
    phases.start({"MPIKIT_STATE": str(tmp_path), "OMPI_COMM_WORLD_RANK": "5"})
    phases.stepped(12)
    found = read((tmp_path / "heartbeats" / str(os.getpid())).read_bytes())
    assert (found.pid, found.rank, found.step, found.phase) == (os.getpid(), 5, 12, "step")
    assert began <= found.progress <= time.monotonic()


def test_a_file_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "heartbeats").write_text("not a folder")
    phases.start({"MPIKIT_STATE": str(tmp_path)})
    phases.enter("load")
    assert phases.record()["seconds"].keys() == PHASES.keys()


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (target := tmp_path / "target").write_text("mine")
    (tmp_path / "heartbeats").mkdir()
    (tmp_path / "heartbeats" / str(os.getpid())).symlink_to(target)
    phases.start({"MPIKIT_STATE": str(tmp_path)})
    assert target.read_text() == "mine"
    read((tmp_path / "heartbeats" / str(os.getpid())).read_bytes())


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-8], lambda b: b"\0" * SIZE, lambda b: b[:8] + b"\0" * 6 + b"\xf0\x3f" + b[16:]]
)
def test_a_file_of_another_layout_or_one_that_just_changes_says_nothing(damage: Callable[[bytes], bytes]) -> None:
    Phases(buffer := bytearray(SIZE), pid=7, rank=0)
    assert heartbeat_of(damage(bytes(buffer))) is None


def test_without_a_start_nothing_is_noted() -> None:
    phases.enter("step")
    phases.stepped(3)
    with phases.during("save"):
        phases.beat()
    assert phases.record() == {}


def test_the_time_of_forward_passes_adds_up_apart_from_the_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "_mine", Phases(buffer := bytearray(SIZE), pid=7, rank=0))
    for step in (1, 2):
        phases.worked(0.25)
        phases.stepped(step, 16)
    phases.used(0.5)
    phases.used(None)
    found = read(buffer)
    assert (found.own, found.images, found.num_steps, found.device_memory) == (0.5, 16, 2, 2**29)


def test_a_run_leaves_an_account_of_all_its_seconds(here: Callable[..., Result], tmp_path: Path) -> None:
    assert here("--name", "run").code == 0
    lines = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    accounts = [line for line in lines if line["event"] == "phases"]
    assert {line["step"] for line in accounts} >= {line["step"] for line in lines if line["event"] == "checkpoint"}
    assert [line["event"] for line in lines[-2:]] == ["phases", "complete"]
    last = lines[-2]
    assert all(last["seconds"][name] > 0 for name in ("init", "first_batch", "compile", "step", "data", "eval", "save"))
    assert last["started"] + sum(last["seconds"].values()) == pytest.approx(time.time(), abs=5)
