# SPDX-License-Identifier: Apache-2.0
"""When a job hangs, on a simulated clock: what the nodes report, and what the watchdog says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from vit.run.phases import PHASES
from vit.supervise.watchdog.scores import Work
from vit.supervise.watchdog.watch import Watch, odd_ones, place_of

REPORT_SECONDS = 5.0


@dataclass
class Job:
    """Two nodes with two ranks each, whose monitors report every five seconds."""

    watch: Watch = field(default_factory=Watch)
    now: float = 5000.0
    step: int = 100
    num_steps: int = 50
    longest: dict[str, float] = field(default_factory=dict)

    def reports(self, phases: list[str], idle: list[float], stopped: dict[str, list[str]] | None = None) -> str:
        """Let both nodes report; return what the watchdog says then."""
        for node in range(2):
            ranks = [
                [rank, 70 + rank, self.step, self.num_steps, phases[rank], idle[rank]]
                for rank in range(2 * node, 2 * node + 2)
            ]
            longest = {name: self.longest.get(name, 0.0) for name in PHASES}
            report = {"ranks": ranks, "longest": longest, "stopped": (stopped or {}).get(f"w-{node}", [])}
            self.watch.hear(f"w-{node}", report, self.now)
        return self.watch.judge(self.now)

    def stands(
        self, phases: list[str], seconds: float, stopped: dict[str, list[str]] | None = None
    ) -> tuple[float, str]:
        """Let the ranks stand in these phases; return after how many seconds the watchdog says what."""
        stood = 0.0
        while stood <= seconds:
            if said := self.reports(phases, [stood] * 4, stopped):
                return stood, said
            stood += REPORT_SECONDS
            self.now += REPORT_SECONDS
        return stood, ""


STEP = ["step"] * 4


def test_four_ranks_without_progress_in_a_step_hang_after_two_minutes() -> None:
    after, said = Job().stands(STEP, 600)
    assert after == 125
    assert said == (
        "no rank made progress for 125 s: "
        "rank 0 on w-0, rank 1 on w-0, rank 2 on w-1, rank 3 on w-1 in phase step after step 100"
    )


def test_the_rank_in_another_phase_is_named_apart() -> None:
    after, said = Job().stands(["step", "step", "data", "step"], 3600)
    assert after == 605
    assert said.endswith("rank 2 on w-1 in phase data after step 100")


@pytest.mark.parametrize("phase", ["compile", "eval", "save", "load", "init", "first_batch", "other"])
def test_one_rank_that_takes_long_at_what_may_take_long_is_no_alarm(phase: str) -> None:
    job = Job()
    assert job.stands([phase, "step", "step", "step"], 25 * 60)[1] == ""
    assert job.reports(STEP, [1.0] * 4) == ""
    assert job.stands([phase, "step", "step", "step"], 40 * 60)[0] == 1805


def test_a_quiet_run_of_half_an_hour_with_slow_saves_and_evaluations_gives_no_alarm() -> None:
    job = Job(num_steps=0)
    plan = [("compile", 300.0)] + [(phase, 240.0) for phase in ("data", "eval", "save")] * 3
    for phase, seconds in plan:
        assert job.stands([phase, "step", "step", "step"], seconds)[1] == ""
        job.num_steps += 10


def test_the_first_steps_have_the_limit_of_a_compilation() -> None:
    assert Job(num_steps=4).stands(STEP, 3600)[0] == 1805
    assert Job(num_steps=5).stands(STEP, 3600)[0] == 125


def test_the_limit_is_five_times_the_longest_seen_on_any_node_and_capped() -> None:
    assert Job(longest={"step": 90.0}).stands(STEP, 3600)[0] == 455
    assert Job(longest={"step": 9000.0}).stands(STEP, 9000)[0] == 7205


def test_what_earlier_attempts_have_learnt_counts() -> None:
    assert Job(watch=Watch({"step": 60.0})).stands(STEP, 3600)[0] == 305


def test_a_stopped_process_is_named_within_fifteen_seconds_while_the_others_look_well() -> None:
    after, said = Job().stands(STEP, 600, {"w-1": ["rank 3", "a loader process of rank 2"]})
    assert after <= 15
    assert said == "rank 3 on w-1, a loader process of rank 2 on w-1 are stopped (SIGSTOP)"


def test_a_process_that_is_continued_soon_is_no_alarm() -> None:
    job = Job()
    for _ in range(20):
        assert job.reports(STEP, [1.0] * 4, {"w-0": ["rank 0"]}) == ""
        job.now += REPORT_SECONDS
        assert job.reports(STEP, [1.0] * 4) == ""
        job.now += REPORT_SECONDS


def test_a_node_whose_monitor_is_silent_decides_nothing() -> None:
    job = Job()
    job.reports(STEP, [500.0] * 4, None)
    job.now += 100
    assert job.watch.judge(job.now) == ""


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"ranks": [[1, 2]], "longest": {}, "stopped": []},
        {"ranks": [[0, 1, 2, 3, "step", "x"]], "longest": dict.fromkeys(PHASES, 0), "stopped": []},
        {"ranks": 5, "longest": None, "stopped": None},
    ],
)
def test_a_report_that_no_monitor_writes_changes_nothing(report: dict[str, Any]) -> None:
    watch = Watch()
    watch.hear("w-0", report, 1.0)
    assert (watch.ranks, watch.stopped, watch.judge(1.0)) == ({}, {}, "")


def test_what_the_ranks_have_done_goes_on_to_their_scores() -> None:
    watch = Watch()
    rank = [3, 70, 1100, 100, "step", 0.1, 12.5, 40.0, 2.0, 16, 2**30, 2**31]
    watch.hear("w-1", {"ranks": [rank], "longest": dict.fromkeys(PHASES, 0), "stopped": []}, 9.0)
    assert watch.works == {"w-1": (9.0, [Work(3, "w-1", 1100, 100, 12.5, 40.0, 2.0, 16, 2**30, 2**31)])}


WAITS = """Thread 0x7f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait

Current thread 0x7f2 (most recent call first):
  File "/opt/torch/distributed/c10d.py", line 99 in all_reduce
  File "/kit/vit.zip/vit/training/loop.py", line 66 in take_step
  File "/kit/vit.zip/vit/train.py", line 30 in _train
"""
READS = 'Thread 0x7f2 (most recent call first):\n  File "/kit/vit.zip/vit/data/workers.py", line 12 in wait\n'


def test_the_place_of_a_rank_is_the_innermost_frame_of_the_trainer() -> None:
    assert (place_of(WAITS), place_of(READS)) == ("take_step (loop.py:66)", "wait (workers.py:12)")
    assert place_of("damaged") == "an unknown place"


def test_the_ranks_of_the_larger_group_wait_and_the_odd_one_is_named_with_its_node() -> None:
    hosts = {0: "w-0", 1: "w-0", 2: "w-1"}
    assert odd_ones({0: WAITS, 1: WAITS, 2: READS}, hosts) == [
        "rank 0 on w-0, rank 1 on w-0: in take_step (loop.py:66)",
        "rank 2 on w-1: in wait (workers.py:12)",
    ]
