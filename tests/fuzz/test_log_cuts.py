# SPDX-License-Identifier: Apache-2.0
"""logs -f over streams that break off: each line once and in order. The server is scripted, its kubelet too.

More of them: scripts/soak logs --cases 2000.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest

from mpikit.errors import Unreachable
from tests.conftest import Command
from tests.support.scripted.loglines import JOB, POD, START, Cut, Line, LogPod, Logs, cuts_of, size_of, written
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import NAMESPACE, TimedCluster, World

CASES = int(os.environ.get("LOG_CASES", "100"))
LATER = START + timedelta(minutes=1)
SHORT = written("short", 50, ends=False, longest=3)
LONG = written("long", 2000)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    world = World(Scripted(), tmp_path_factory.mktemp("logs"))
    yield Logs(world)
    world.close()


def faulty(logs: Logs, pods: list[LogPod]) -> list[list[Cut | None]]:
    """The cuts of those pods whose lines did not come out once each and in order."""
    found = []
    for pod in pods:
        cuts = list(pod.cuts)
        if logs.follow(pod) != pod.expected:
            found.append(cuts)
    return found


def test_a_cut_at_any_byte_loses_and_repeats_no_line(logs: Logs) -> None:
    hows, thens = ("clean", "broken", "reset"), ("runs", "ends")
    cuts = [Cut(place, hows[place % 3], thens[place % 2]) for place in range(size_of(SHORT))]
    assert not faulty(logs, [LogPod([SHORT], [cut]) for cut in cuts])


def test_a_cut_at_any_line_of_the_last_read_loses_nothing(logs: Logs) -> None:
    ends = [0, *(size_of(SHORT[:number]) for number in range(1, 50))]
    half = Cut(size_of(SHORT) // 2, "clean", "ends")
    assert not faulty(logs, [LogPod([SHORT], [half, Cut(place)]) for place in ends])


def test_random_cuts_of_a_long_log_lose_and_repeat_no_line(logs: Logs) -> None:
    size = size_of(LONG)
    single = [LogPod([LONG], cuts_of(seed, size, 1)) for seed in range(CASES // 2)]
    several = [LogPod([LONG], cuts_of(seed, size, 20)) for seed in range(CASES // 2, CASES)]
    assert not faulty(logs, [*single, *several])


@pytest.mark.parametrize("lag", [0.0, 1.5])
def test_a_restart_at_the_moment_of_a_cut_loses_and_repeats_no_line(logs: Logs, lag: float) -> None:
    again = written("again", 50, LATER, ends=False, longest=3)
    sizes = range(0, size_of(SHORT), max(1, 6000 // CASES))
    pods = [LogPod([SHORT, again], [Cut(place, "broken", "ends"), *cuts_of(place, 900, 2)], lag=lag) for place in sizes]
    assert not faulty(logs, pods)


def test_a_last_line_without_an_end_comes_once_while_the_container_waits_for_its_restart(logs: Logs) -> None:
    again = written("again", 20, LATER, ends=False)
    pod = LogPod([SHORT, again], lag=15.0, shows_end=True)
    assert logs.follow(pod) == pod.expected


def test_a_clock_that_is_set_back_loses_no_line_of_an_open_stream(logs: Logs) -> None:
    back = [Line(START, b"2026-11-25T02:00:00.000000000Z after\n", b"after")]
    pod = LogPod([[*SHORT[:-1], *back]])
    assert logs.follow(pod) == pod.expected


def test_tail_shows_no_earlier_line_after_a_cut(logs: Logs) -> None:
    lines = written("tail", 40)
    for place in range(0, size_of(lines[-3:]), 7):
        assert logs.follow(LogPod([lines], [Cut(place, "broken")]), tail=3) == [line.text for line in lines[-3:]]


def test_streams_that_end_at_once_are_not_asked_for_without_pause(logs: Logs) -> None:
    began = logs.world.clock()
    logs.follow(LogPod([SHORT], [Cut(0)] * 50))
    assert len(logs.pod.served) / (logs.world.clock() - began) < 1


def test_a_server_that_stays_away_is_told_once_and_then_ends_the_command(logs: Logs) -> None:
    logs.begin(LogPod([SHORT], [Cut(100, "broken")]))
    lines, before = logs.lines(), len(logs.told)
    next(lines)
    logs.server.shut(seconds=3600)
    with pytest.raises(Unreachable, match="refused the connection"):
        list(lines)
    assert len([text for text in logs.told[before:] if "trying again" in text]) == 1
    logs.world.clock.skip(3600)


def test_a_server_that_is_away_while_the_next_pod_is_awaited_ends_no_command(logs: Logs) -> None:
    logs.begin(LogPod([SHORT]))
    launcher, awaited = logs.server.store.get("pods", NAMESPACE, POD), list[Request]()
    logs.server.store.put("DELETED", "pods", launcher)

    def comes_after_an_outage(request: Request, handler: Handler) -> bool:
        if request.path.endswith("/pods") and len(awaited) < 3:
            awaited.append(request)
            if len(awaited) == 2:
                logs.server.shut(seconds=120)
                handler.reset()
            return False
        return logs.pod.answer(request, handler)

    logs.server.answer = comes_after_an_outage
    before = len(logs.told)
    assert list(logs.lines()) == [line.text for line in SHORT]
    assert len([text for text in logs.told[before:] if "trying again" in text]) == 1


@pytest.mark.parametrize("seed", range(12))
def test_the_command_line_prints_the_lines_as_bytes_whatever_is_cut(
    seed: int, logs: Logs, generate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = logs.world.clock
    impatient = functools.partial(TimedCluster, clock=clock, sleep=clock.sleep)
    monkeypatch.setattr("mpikit.kube.client.Cluster", impatient)
    logs.begin(pod := LogPod([SHORT], cuts_of(seed, size_of(SHORT), 5)))
    done = generate("logs", "-f", JOB, "-n", NAMESPACE, "--kubeconfig", str(logs.world.kubeconfig))
    assert done.returncode == 0
    assert done.stdout.encode() == b"".join(line + b"\n" for line in pod.expected)
