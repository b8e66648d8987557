# SPDX-License-Identifier: Apache-2.0
"""The account of a job's seconds: what each part gets, and that the parts add up."""

from __future__ import annotations

import random

import pytest

from vit.supervise.goodput import PARTS, Moments, Outcome, account, sentence, total_of

SECONDS = {"init": 5.0, "load": 1.0, "first_batch": 2.0, "compile": 3.0, "step": 60.0, "data": 4.0, "eval": 10.0,
           "save": 6.0, "other": 1.0}  # fmt: skip
PHASES = {"started": 1010.0, "seconds": SECONDS}


def test_an_attempt_that_is_complete_has_the_phases_of_rank_0_and_what_came_before() -> None:
    found = account(Moments(1000, 1008, 1100, 1104, 1104), PHASES, Outcome(complete=True))
    assert found["waiting_for_pods"] == 8
    assert found["init"] == 2 + 5
    assert (found["step"], found["data"], found["eval"], found["save"]) == (60, 6, 10, 6)
    assert found["idle"] == found["hang"] == found["redone"] == 0
    assert sum(found.values()) == pytest.approx(104)


def test_steps_after_the_last_record_are_known_by_the_progress_lines() -> None:
    found = account(Moments(1000, 1008, 1152, 1162, 1165), PHASES, Outcome(redone_share=0.25))
    assert found["step"] + found["redone"] == 60 + (1152 - 1102)
    assert found["redone"] == 0.25 * 110
    assert found["idle"] == 10 + 3


def test_a_hang_begins_with_the_last_sign_of_progress() -> None:
    found = account(Moments(1000, 1008, 1152, 1262, 1265), PHASES, Outcome(hang=True))
    assert (found["hang"], found["idle"]) == (110, 3)


@pytest.mark.parametrize(("ready", "part"), [(None, "waiting_for_pods"), (1010, "init")])
def test_an_attempt_without_a_rank_waited_or_initialised(ready: float | None, part: str) -> None:
    found = account(Moments(1000, ready, None, 1100, 1100), None, Outcome())
    assert found[part] == (100 if ready is None else 90)
    assert sum(found.values()) == pytest.approx(100)


def test_the_parts_add_up_whatever_the_clocks_say() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        start = 1000.0
        ready = chance.choice([None, start + chance.uniform(0, 50)])
        end = (ready or start) + chance.uniform(0, 100)
        heard = chance.choice([None, end - chance.uniform(-5, 20)])
        after = end + chance.uniform(0, 60)
        seconds = {name: chance.uniform(0, 30) for name in SECONDS}
        phases = chance.choice([None, {"started": start + chance.uniform(-100, 200), "seconds": seconds}])
        outcome = Outcome(chance.random() < 0.3, chance.random() < 0.3, chance.choice([0.0, chance.random()]))
        found = account(Moments(start, ready, heard, end, after), phases, outcome)
        assert sum(found.values()) == pytest.approx(after - start, rel=1e-6)
        assert min(found.values()) >= -1e-6, found
        assert set(found) == set(PARTS)


def test_the_sentence_has_the_goodput_and_the_largest_parts_first() -> None:
    lines = [
        {"seconds": {"step": 5400.0, "eval": 300.0, "idle": 1200.0}},
        {"seconds": {"step": 300.0, "save": 1.0}},
        {},
    ]
    assert sentence(total_of(lines)) == "goodput 79.2 % of 2 h 0 min; idle after a failure 16.7 %, evaluation 4.2 %"
    assert sentence(total_of([])) == ""
