# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from vit.run import background
from vit.run.background import Background


class Lost(Exception):
    """What a job raises here."""


def fail() -> None:
    raise Lost


def test_a_job_runs_beside_its_caller_and_only_one_at_a_time() -> None:
    released, done = threading.Event(), list[int]()
    work = Background()
    work.start(lambda: (released.wait(), done.append(1))[1])
    work.raise_if_failed()
    assert not done
    threading.Timer(0.05, released.set).start()
    work.start(lambda: done.append(2))
    assert done[:1] == [1]
    work.wait()
    assert done == [1, 2]


def look_until_the_end(work: Background) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        work.raise_if_failed()


@pytest.mark.parametrize(
    "notice",
    [Background.wait, look_until_the_end, lambda work: work.start(lambda: None)],
    ids=["wait", "raise_if_failed", "start"],
)
def test_what_a_job_raises_is_raised_once_where_the_run_notices(notice: Callable[[Background], None]) -> None:
    work = Background()
    work.start(fail)
    with pytest.raises(Lost):
        notice(work)
    work.wait()


def test_a_wait_tells_of_progress_but_not_of_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "BEAT_SECONDS", 0.01)
    told, work, released, moving = list[int](), Background(), threading.Event(), threading.Event()

    def job() -> None:
        moving.wait()
        work.note_progress()
        released.wait()

    work.start(job)
    threading.Timer(0.1, moving.set).start()
    threading.Timer(0.3, released.set).start()
    work.wait(lambda: told.append(1))
    assert told == [1]


def test_a_job_that_takes_too_long_can_be_left_alone() -> None:
    released, work = threading.Event(), Background()
    work.start(lambda: (released.wait(), None)[1])
    assert not work.ends_within(0.05)
    released.set()
    assert work.ends_within(60)
