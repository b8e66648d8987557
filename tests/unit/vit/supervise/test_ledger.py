# SPDX-License-Identifier: Apache-2.0
"""goodput.jsonl over attempts and launchers: time is a test's; events.jsonl is what a trainer leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from vit.supervise.endings import COMPLETE, LOST, Ending
from vit.supervise.goodput import NAME, Ledger
from vit.supervise.history import RunFiles
from vit.supervise.policy import Attempt


@dataclass
class Clock:
    now: float = 10_000.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    (tmp_path / "run").mkdir()
    return RunFiles(tmp_path, "run")


def phases(files: RunFiles, started: float, **seconds: float) -> None:
    with (files.folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "phases", "started": started, "seconds": seconds}) + "\n")


def lines(files: RunFiles) -> list[dict[str, object]]:
    return [json.loads(line) for line in (files.folder / NAME).read_text().splitlines()]


def play(ledger: Ledger, clock: Clock, ending: Ending, number: int = 1, steps: int = 100, saved: int = 100) -> None:
    """An attempt: 10 s until the workers answer, 50 s until its last progress line, 4 s until its end."""
    ledger.begin()
    clock.after(10)
    ledger.heard("run_vit.sh: all 2 workers answer after 10 s")
    clock.after(50)
    ledger.heard(f"step={steps}/200 loss=1")
    clock.after(4)
    ledger.ended(Attempt(number, ending, 64.0, 0, saved, steps))


def test_each_attempt_has_a_line_and_all_seconds_are_accounted_for(files: RunFiles, clock: Clock) -> None:
    ledger = Ledger(files, "uid", age_seconds=3.0, clock=clock)
    ledger.open()
    began = clock.now - 3.0
    play(ledger, clock, Ending(LOST, 137, "killed"), steps=100, saved=75)
    clock.after(20)
    play(ledger, clock, Ending(COMPLETE, 0, ""), number=2)
    ledger.close()
    start, first, second = lines(files)
    assert start["start"] == began
    assert (first["start"], first["end"], second["start"]) == (began, began + 87, first["end"])
    assert first["seconds"] == {"waiting_for_pods": 13.0, "step": 37.5, "redone": 12.5, "idle": 24.0}
    assert second["seconds"] == {"waiting_for_pods": 10.0, "step": 50.0, "other": 4.0}
    assert first["cause"] == "a rank or node was lost: killed"
    assert sum(ledger_seconds(files)) == pytest.approx(clock.now - began)
    assert ledger.sentence().startswith("goodput 57.9 % of 2 min 31 s; idle after a failure 15.9 %")


def ledger_seconds(files: RunFiles) -> list[float]:
    return [sum(line["seconds"].values()) for line in lines(files)]  # type: ignore[attr-defined]


def test_the_time_between_two_launchers_is_accounted_for(files: RunFiles, clock: Clock) -> None:
    first = Ledger(files, "uid", clock=clock)
    first.open()
    began = clock.now
    first.begin()
    phases(files, started=began + 30, init=5, step=100)
    clock.after(300)  # it is killed, and Kubernetes starts another pod
    second = Ledger(files, "uid", age_seconds=2.0, clock=clock)
    second.open()
    play(second, clock, Ending(COMPLETE, 0, ""))
    second.close()
    lost = lines(files)[1]
    assert lost["seconds"] == {"waiting_for_pods": 30.0, "init": 5.0, "step": 100.0, "idle": 163.0}
    assert sum(ledger_seconds(files)) == pytest.approx(clock.now - began)


def test_the_account_of_another_job_is_not_continued(files: RunFiles, clock: Clock) -> None:
    other = Ledger(files, "other", clock=clock)
    other.open()
    clock.after(1000)
    mine = Ledger(files, "uid", clock=clock)
    mine.open()
    assert lines(files)[-1]["start"] == clock.now
    assert len(mine.lines) == 1


def test_phases_of_an_earlier_attempt_do_not_count_twice(files: RunFiles, clock: Clock) -> None:
    ledger = Ledger(files, "uid", clock=clock)
    ledger.open()
    phases(files, started=clock.now - 500, step=400)
    play(ledger, clock, Ending(COMPLETE, 0, ""))
    ledger.close()
    assert lines(files)[-1]["seconds"] == {"waiting_for_pods": 10.0, "step": 50.0, "other": 4.0}


def test_a_cut_line_or_strange_events_do_no_harm(files: RunFiles, clock: Clock) -> None:
    (files.folder / NAME).write_text('{"job": "uid", "end": 99\n{"job": "uid", "end": "x", "seconds": {"step": "y"}}\n')
    (files.folder / "events.jsonl").write_text('{"event": "phases", "started": "x"}\n[1]\n{"event": "pha')
    ledger = Ledger(files, "uid", clock=clock)
    ledger.open()
    play(ledger, clock, Ending(COMPLETE, 0, ""))
    ledger.close()
    assert ledger.sentence().startswith("goodput 78.1 % of")


def test_a_running_job_states_its_account_now_and_then(files: RunFiles, clock: Clock) -> None:
    ledger = Ledger(files, "uid", clock=clock)
    ledger.open()
    ledger.begin()
    ledger.heard("run_vit.sh: all 2 workers answer after 10 s")
    said = []
    for step in range(1, 40):
        clock.after(60)
        ledger.heard(f"step={step}/200 loss=1")
        said.append(ledger.due())
    assert [line for line in said if line] == [
        "goodput 100.0 % of 10 min 0 s",
        "goodput 100.0 % of 20 min 0 s",
        "goodput 100.0 % of 30 min 0 s",
    ]
    assert len(lines(files)) == 1
