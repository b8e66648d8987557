# SPDX-License-Identifier: Apache-2.0
"""Endings as Open MPI, torch, NCCL, HCCL, ssh and the trainer print them: the class, and so whether to try again."""

from __future__ import annotations

from pathlib import Path

import pytest

from vit.supervise.endings import KINDS, classify

RANK_4 = "mpirun noticed that process rank 1 with PID 24 on node j-worker-1.j.ns.svc exited on signal 9 (Killed)."
RANK_5 = "prterun noticed that process rank 1 with PID 41 on node j-worker-1 exited on\nsignal 9 (Killed)."

TABLE = (Path(__file__).parent / "endings.txt").read_text().splitlines()
ENDINGS = [line.split(" | ", 2) for line in TABLE if line[0] != "#"]


@pytest.mark.parametrize(("code", "kind", "text"), ENDINGS)
def test_an_ending_has_its_class(code: str, kind: str, text: str) -> None:
    lines = text.replace("\\n", "\n").replace("\\t", "\t").splitlines()
    assert classify(int(code), lines).kind.name == kind


def test_only_these_classes_end_a_job_at_once() -> None:
    ends = {name for name, kind in KINDS.items() if kind.verdict == "end"}
    assert ends == {
        "complete",
        "stopped as asked",
        "wrong configuration",
        "unusable data",
        "workers do not answer",
        "an error in the program",
    }


@pytest.mark.parametrize("code", [6, 137, 139, 205])
def test_a_warning_about_an_optional_package_is_not_the_cause(code: int) -> None:
    lines = ["warning: simplejpeg is not used (No module named 'simplejpeg')", "[rank 3] warning: no module"]
    assert classify(code, lines).kind.name == "a rank or node was lost"


def test_what_the_start_waited_for_is_not_the_cause() -> None:
    lines = ["run_vit.sh: waiting for worker 1 of 2 (w-0): ssh: connect to host w-0: Connection refused", RANK_4]
    ending = classify(137, lines)
    assert (ending.kind.name, ending.cause) == ("a rank or node was lost", RANK_4)


def test_a_stop_that_was_asked_for_is_no_failure() -> None:
    assert classify(137, [RANK_4], asked=True).kind.name == "stopped as asked"


def test_the_cause_is_the_line_of_the_writer_that_knows_most() -> None:
    lost = "vit.train: ranks: another rank was lost, read its message above this one"
    assert classify(6, [lost]).cause == lost
    assert classify(6, [lost, *RANK_5.splitlines()]).cause == RANK_5.replace("\n", " ")
    full = "vit.train: /output: is full, free some space"
    assert classify(7, [RANK_4, full]).cause == full


def test_a_long_line_is_cut() -> None:
    assert len(classify(1, ["OSError: Input/output error " + "x" * 5000]).cause) == 300
