# SPDX-License-Identifier: Apache-2.0
"""Which node is blamed, by the words of mpirun, ssh, setup.sh and the watchdog, and when it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vit.supervise.endings import DATA, LOST, Ending, classify
from vit.supervise.history import RunFiles
from vit.supervise.nodes import NAME, Nodes, culprit

HOSTS, RANKS = {"vit-worker-0": "gaudi-03", "vit-worker-1": "gaudi-07"}, {0: "vit-worker-0", 1: "vit-worker-1"}
ONE = "vit-worker-1"
KILLED = "mpirun noticed that process rank 1 with PID 24 on node vit-worker-1 exited on signal 9 (Killed)."


def made(folder: Path, said: list[str], *, auto: bool = False) -> Nodes:
    (folder / "run").mkdir(exist_ok=True)
    nodes = Nodes(RunFiles(folder, "run"), "uid-1", "python generate.py repair vit", auto, said.append)
    nodes.learn(HOSTS, RANKS)
    return nodes


def window(step: int, **scores: float) -> dict[str, object]:
    return {"step": step, "ranks": [{"host": f"vit-worker-{name[1:]}", "score": one} for name, one in scores.items()]}


@pytest.mark.parametrize(
    ("code", "lines", "host"),
    [
        (137, [KILLED], "vit-worker-1"),
        (137, ["prterun noticed that process rank 1 with PID 24 on node here exited on", "signal 9 (Killed)."], ONE),
        (137, ["[rank 0] vit.train: a rank was lost", "rank 1 with PID 7 on node here exited on signal 9"], ONE),
        (205, ["  HNP daemon   : [[9,0],0] on node vit-launcher", "  Remote daemon: [[9,0],2] on node " + ONE], ONE),
        (1, ["[vit-worker-0] FAULT  cards: 7 of hpu, 8 needed"], "vit-worker-0"),
        (1, ["[rank 1] RuntimeError: CUDA error: uncorrectable ECC error encountered"], "vit-worker-1"),
        (6, ["run_vit.sh: mpirun ended with exit code 0, but the run is not complete"], ""),
        (6, ["[rank 0] vit.train: a rank was lost"], ""),
    ],
)
def test_the_host_is_that_of_the_line_that_tells_the_loss(code: int, lines: list[str], host: str) -> None:
    assert culprit(classify(code, lines), lines, HOSTS, RANKS) == host


def test_nobody_is_blamed_where_several_are_named() -> None:
    cause = "no rank made progress for 130 s: rank 0 on vit-worker-0, rank 1 on vit-worker-1 in phase step after step 9"
    assert culprit(Ending(LOST, 4, cause), [], HOSTS, RANKS) == ""


def test_a_node_is_named_at_its_second_failure_with_the_command(tmp_path: Path) -> None:
    said: list[str] = []
    nodes = made(tmp_path, said)
    nodes.failed(1, classify(137, [KILLED]), [KILLED])
    assert not said
    again = made(tmp_path, said)  # another launcher of this Job
    again.failed(2, classify(137, [KILLED]), [KILLED])
    why = "node gaudi-07 has caused 2 failures (a rank or node was lost)"
    assert said == [f"{why}: python generate.py repair vit --exclude gaudi-07"]
    lines = [json.loads(line) for line in (tmp_path / "run" / NAME).read_text().splitlines()]
    assert [(line["node"], line["host"], line["attempt"]) for line in lines] == [
        ("gaudi-07", "vit-worker-1", 1),
        ("gaudi-07", "vit-worker-1", 2),
    ]


def test_with_auto_the_command_finds_the_node_by_itself(tmp_path: Path) -> None:
    said: list[str] = []
    nodes = made(tmp_path, said, auto=True)
    for number in (1, 2):
        nodes.failed(number, classify(137, [KILLED]), [KILLED])
    assert said[0].endswith(": python generate.py repair vit")


def test_wrong_data_says_nothing_about_a_node(tmp_path: Path) -> None:
    said: list[str] = []
    nodes = made(tmp_path, said)
    for number in (1, 2, 3):
        nodes.failed(number, Ending(DATA, 8, "[rank 1] vit.train: a.jpg on vit-worker-1 is damaged"), [])
    assert not said


def test_a_node_that_is_slow_for_200_steps_is_named_once(tmp_path: Path) -> None:
    said: list[str] = []
    nodes = made(tmp_path, said)
    for step, score in ((100, 0.5), (125, 0.5), (150, 0.5), (175, 0.5), (200, 0.9), (225, 0.6)):
        nodes.scored(window(step, r0=1.0, r1=score))
    assert not said
    for step in range(250, 600, 25):
        nodes.scored(window(step, r0=1.0, r1=0.55))
    assert len(said) == 1
    assert said[0].startswith("node gaudi-07 is slow (score 0.55, below 0.7 for 200 steps): ")


def test_a_node_that_the_job_has_left_is_not_named_again(tmp_path: Path) -> None:
    nodes = made(tmp_path, [])
    for number in (1, 2):
        nodes.failed(number, classify(137, [KILLED]), [KILLED])
    later = Nodes(RunFiles(tmp_path, "run"), "uid-1", "repair", auto=False, say=lambda _: None)
    later.learn({"vit-worker-0": "gaudi-03", "vit-worker-1": "gaudi-09"}, RANKS)
    assert not later.sentences()


def test_a_name_that_is_not_a_nodes_is_not_taken(tmp_path: Path) -> None:
    nodes = made(tmp_path, [])
    nodes.learn({"vit-worker-1": "gaudi-07; reboot\x1b[2J"}, RANKS)
    assert nodes.places["vit-worker-1"] == "gaudi-07"
