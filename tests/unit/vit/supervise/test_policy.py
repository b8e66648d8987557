# SPDX-License-Identifier: Apache-2.0
"""Budgets, pauses and exit codes of restarts."""

from __future__ import annotations

import pytest

from vit.supervise import endings
from vit.supervise.endings import Ending, Kind
from vit.supervise.policy import Attempt, Decision, Limits, decide

LIMITS = Limits(max=5, wait_seconds=900)
BUDGET = 10


def attempt(
    kind: Kind, code: int = 6, before: int | None = 0, after: int | None = 0, last: int | None = None
) -> Attempt:
    return Attempt(1, Ending(kind, code, ""), 60.0, before, after, last)


def lost(step: int, before: int = 0) -> Attempt:
    """A lost rank after a checkpoint of this step."""
    return attempt(endings.LOST, before=before, after=step, last=step)


def after(*attempts: Attempt, limits: Limits = LIMITS) -> Decision:
    return decide(attempts, limits, 0.5)


def test_a_lost_rank_is_started_again() -> None:
    assert after(lost(20)).exit_code is None


@pytest.mark.parametrize(
    ("kind", "code"),
    [(endings.CONFIGURATION, 2), (endings.DATA, 8), (endings.PROGRAM, 1), (endings.NO_WORKERS, 1), (endings.CHECKS, 1)],
)
def test_what_would_fail_again_ends_at_once_with_its_own_code(kind: Kind, code: int) -> None:
    assert after(attempt(kind, code)).exit_code == code


def test_zero_restarts_are_as_before() -> None:
    assert after(attempt(endings.LOST, 6), limits=Limits(0, 900)).exit_code == 6


def test_three_attempts_without_a_checkpoint_end_the_job() -> None:
    tries = [attempt(endings.LOST)] * 3
    assert [after(*tries[:count]).exit_code for count in (1, 2, 3)] == [None, None, BUDGET]


def test_a_new_checkpoint_clears_the_count() -> None:
    idle = attempt(endings.LOST, before=20, after=20)
    assert after(idle, idle, lost(40, 20), idle, idle).exit_code is None


def test_all_restarts_are_used() -> None:
    tries = [lost(20 * (number + 1), 20 * number) for number in range(6)]
    assert [after(*tries[:count]).exit_code for count in (5, 6)] == [None, BUDGET]


def test_drained_workers_have_a_budget_of_their_own() -> None:
    drained = attempt(endings.DRAINED, 143)
    assert after(*[drained] * 50).exit_code is None
    assert after(*[drained] * 99, lost(20)).exit_code is None
    assert after(*[drained] * 100).exit_code == BUDGET


def test_a_loss_that_is_not_finite_is_tried_once_more() -> None:
    first, second = (attempt(endings.NOT_FINITE, 5, before=before, after=300, last=400) for before in (0, 300))
    elsewhere = attempt(endings.NOT_FINITE, 5, before=300, after=400, last=450)
    assert after(first).exit_code is None
    assert after(first, second).exit_code == 5
    assert after(first, elsewhere).exit_code is None


def test_memory_that_is_short_before_the_first_checkpoint_is_tried_once_more() -> None:
    short = attempt(endings.MEMORY, 137, before=None, after=None, last=3)
    assert after(short).exit_code is None
    assert after(short, short).exit_code == 137


def test_a_node_that_fails_its_checks_ends_the_job_only_before_the_first_start() -> None:
    checks = attempt(endings.CHECKS, 1)
    assert after(checks).exit_code == 1
    assert after(lost(20), checks).exit_code is None


def test_a_worker_that_does_not_come_back_spends_the_budget() -> None:
    decision = after(lost(20), attempt(endings.NO_WORKERS, 1))
    assert decision.exit_code == BUDGET
    assert "did not come back within 900 s" in decision.why


def test_pauses_grow_and_are_spread() -> None:
    idle = attempt(endings.LOST)
    pauses = [decide([lost(20), *[idle] * count], LIMITS, 0.999).pause_seconds for count in range(3)]
    assert pauses == pytest.approx([1, 4, 16], rel=0.01)
    assert decide([lost(20)], LIMITS, 0.0).pause_seconds == pytest.approx(0.5)
    assert after(lost(1), *[idle] * 2, limits=Limits(100, 1)).pause_seconds <= 60


@pytest.mark.parametrize("kind", [endings.COMPLETE, endings.STOPPED])
def test_complete_and_stopped_keep_their_code(kind: Kind) -> None:
    code = 0 if kind is endings.COMPLETE else 143
    assert after(attempt(kind, code)).exit_code == code


def test_steps_lost_are_those_after_the_last_checkpoint() -> None:
    assert attempt(endings.LOST, before=0, after=20, last=33).steps_lost == 13
    assert attempt(endings.LOST, before=None, after=None, last=None).steps_lost == 0
