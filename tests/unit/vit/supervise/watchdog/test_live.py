# SPDX-License-Identifier: Apache-2.0
"""What each rank does now, with numbers worked out by hand on a simulated clock."""

from __future__ import annotations

from typing import Any

from vit.run.phases import PHASES
from vit.supervise.watchdog.live import Live
from vit.supervise.watchdog.watch import Watch


def hear(watch: Watch, now: float, steps: int, *, phase: str = "step", rank: int = 0, num_steps: int = -1) -> None:
    """A report of a node with one rank. Each step: 0.4 s and 0.1 s for data, 0.2 s in forward passes, 16 images."""
    done = steps if num_steps < 0 else num_steps
    row = [rank, 70, steps, done, phase, 0.5, 0.2 * done, 0.4 * done, 0.1 * done, 16, 2**30, 2**31]
    watch.hear(f"w-{rank}", {"ranks": [row], "longest": dict.fromkeys(PHASES, 0.0), "stopped": []}, now)


def rows(live: Live, watch: Watch, now: float) -> list[dict[str, Any]]:
    record = live.look(watch, now, 1.7e9 + now)
    assert record is not None
    return list(record["ranks"])


def test_a_record_has_the_speeds_of_the_steps_since_the_one_before() -> None:
    live, watch = Live(["w-0", "w-1"]), Watch()
    hear(watch, 100.0, 1)
    assert rows(live, watch, 101.0)[0]["images_per_second"] is None
    hear(watch, 118.0, 37)
    assert live.look(watch, 120.0, 1.7e9) == {
        "time": 1.7e9,
        "nodes": 2,
        "silent": ["w-1"],
        "ranks": [
            {
                "rank": 0,
                "host": "w-0",
                "step": 37,
                "phase": "step",
                "idle_seconds": 0.5,
                "images_per_second": 32.0,
                "data_seconds": 0.1,
                "forward_seconds": 0.2,
                "memory_bytes": 2**30,
                "device_memory_bytes": 2**31,
            }
        ],
    }


def test_a_record_comes_every_fifteen_seconds_and_not_before_the_first_report() -> None:
    live, watch = Live(["w-0"]), Watch()
    assert live.look(watch, 10.0, 1.7e9) is None
    hear(watch, 10.0, 1)
    assert [live.look(watch, now, 1.7e9) is not None for now in (11.0, 25.0, 26.0)] == [True, False, True]


def test_a_step_that_is_longer_than_a_record_keeps_the_last_speed() -> None:
    live, watch = Live(["w-0"]), Watch()
    for now, steps in ((100.0, 1), (115.0, 2), (130.0, 2)):
        hear(watch, now, steps)
        found = rows(live, watch, now)
    assert found[0]["images_per_second"] == 32.0


def test_a_rank_that_evaluates_or_was_started_again_has_no_speed() -> None:
    live, watch = Live(["w-0"]), Watch()
    seen = []
    for now, steps, phase, done in ((0.0, 10, "step", 10), (15.0, 20, "eval", 20), (30.0, 20, "step", 1)):
        hear(watch, now, steps, phase=phase, num_steps=done)
        seen.append(rows(live, watch, now)[0]["images_per_second"])
    assert seen == [None, None, None]


def test_a_node_that_stops_reporting_is_silent_after_a_minute() -> None:
    live, watch = Live(["w-0", "w-1"]), Watch()
    hear(watch, 0.0, 1, rank=0)
    hear(watch, 0.0, 1, rank=1)
    hear(watch, 70.0, 2, rank=1)
    record = live.look(watch, 70.0, 1.7e9)
    assert record is not None
    assert (record["silent"], [row["rank"] for row in record["ranks"]]) == (["w-0"], [1])
