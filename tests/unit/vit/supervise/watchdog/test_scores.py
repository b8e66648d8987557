# SPDX-License-Identifier: Apache-2.0
"""Which rank is slow, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from vit.supervise.watchdog.scores import Scores, Work


def work(rank: int, steps: int, own: float) -> Work:
    """`own`: seconds of all forward passes. Each step lasts 0.5 s, of which 0.1 s for data, with 16 images."""
    return Work(rank, f"w-{rank // 2}", 1000 + steps, steps, own, 0.4 * steps, 0.1 * steps, 16, 2**30)


def windows(*ends: dict[int, float]) -> tuple[Scores, list[list[float]]]:
    """Give a report after each 100 steps; each entry: seconds of a forward pass by rank. Return the scores."""
    scores, total, found = Scores(), dict.fromkeys(ends[0], 1.0), []
    scores.look([work(rank, 0, own) for rank, own in total.items()])
    for number, seconds in enumerate(ends, 1):
        total = {rank: total[rank] + 100 * seconds[rank] for rank in total}
        content = scores.look([work(rank, 100 * number, own) for rank, own in total.items()])
        assert content is not None
        found.append([row["score"] for row in content["ranks"]])
    return scores, found


def test_the_score_is_relative_to_the_fastest_rank() -> None:
    assert windows({0: 0.1, 1: 0.2, 2: 0.125})[1] == [[1.0, 0.5, 0.8]]


def test_the_score_is_relative_to_the_ranks_own_best() -> None:
    assert windows({0: 0.1, 1: 0.1}, {0: 0.2, 1: 0.2})[1] == [[1.0, 1.0], [0.5, 0.5]]


def test_a_row_has_what_a_person_asks_for() -> None:
    scores = Scores()
    scores.look([work(0, 50, 5.0)])
    content = scores.look([work(0, 150, 15.0)])
    assert content == {
        "step": 1150,
        "ranks": [
            {
                "rank": 0,
                "host": "w-0",
                "score": 1.0,
                "step_seconds": 0.1,
                "data_seconds": 0.1,
                "images_per_second": 32.0,
                "memory_bytes": 2**30,
            }
        ],
    }


def test_a_slow_rank_is_named_once_with_its_node() -> None:
    scores = Scores()
    row = {"rank": 3, "host": "w-1", "score": 0.5, "step_seconds": 0.2}
    assert scores.slow({"ranks": [row]}) == [
        "rank 3 on w-1 is slow: score 0.50 (1 is the fastest rank), 200.0 ms in the forward pass of a step; "
        "look for other work on that node, or a slow device"
    ]
    assert scores.slow({"ranks": [row]}) == []
    assert Scores().slow({"ranks": [row | {"score": 0.7}]}) == []


def test_before_100_steps_of_every_rank_nothing_is_said() -> None:
    scores = Scores()
    scores.look([work(0, 0, 1.0), work(1, 0, 1.0)])
    assert scores.look([work(0, 100, 9.0), work(1, 99, 9.0)]) is None
    assert scores.look([work(0, 125, 9.0), work(1, 124, 9.0)]) is not None


@pytest.mark.parametrize("slow_from", range(200, 300, 7))
def test_a_rank_of_half_the_speed_is_named_within_100_steps_wherever_it_begins(slow_from: int) -> None:
    """Reports come every 10 steps, so that the start of the slow time lies anywhere in a window."""
    scores, own, named = Scores(), {0: 0.1, 1: 0.1}, []
    for step in range(500):
        own[0] += 0.1
        own[1] += 0.2 if step >= slow_from else 0.1
        if step % 10 == 0 and (content := scores.look([work(rank, step, own[rank]) for rank in own])):
            named += [(step, line) for line in scores.slow(content)]
    ((step, line),) = named
    assert line.startswith("rank 1 on w-0 is slow: ")
    assert slow_from < step <= slow_from + 100


def test_a_new_attempt_starts_a_new_window() -> None:
    scores = Scores()
    scores.look([work(0, 500, 50.0)])
    assert scores.look([work(0, 10, 1.0)]) is None
    assert scores.look([work(0, 84, 11.0)]) is None
    assert scores.look([work(0, 110, 11.0)]) is not None


def test_a_rank_that_is_late_at_the_start_delays_the_score_and_does_no_harm() -> None:
    scores = Scores()
    early, late = work(1, 5, 0.5), work(0, 0, 0.0)
    assert [scores.look([late, early]) for _ in range(3)] == [None] * 3
    assert scores.look([work(1, 6, 0.6), work(0, 6, 0.6)]) is None
    assert scores.look([work(1, 106, 10.6), work(0, 106, 10.6)]) is not None
