# SPDX-License-Identifier: Apache-2.0
"""status and list as people see them: bars and a curve on a terminal, plain words in a pipe."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mpikit.cli.view import panel_text, status_text, table
from mpikit.resources import ROOT
from mpikit.status.progress import Progress, progress_of
from mpikit.status.verdict import Status
from tests.support.scripted.operator import pod, with_status
from tests.support.scripted.server import Scripted
from tests.support.scripted.world import NAMESPACE, World
from tests.support.terminal import on_terminal

NOW = datetime(2026, 11, 25, 3, tzinfo=timezone.utc)
BLOCKS = "█░▁▂▃▄▅▆▇"
STATUS = Status(
    name="job",
    namespace="lab",
    verdict="Running",
    since=None,
    reason="",
    message="all ranks run",
    advice="python generate.py logs -f job",
    progress=Progress(50, 200, 239.0, 0.5, None, None, (2.0, 1.0, 0.5)),
    goodput=None,
    user="ada",
    workers=3,
    cards=24,
    held_cards=16,
    pods=(2, 4),
    created=NOW,
    finished=False,
    exit_code=None,
    last_lines=(),
)


def drawn(status: Status) -> list[str]:
    return status_text(status, NOW, colour=False, drawn=True).splitlines()


def test_bars_show_the_steps_and_the_pods_and_a_curve_the_loss() -> None:
    lines = drawn(STATUS)
    assert "  done  █████░░░░░░░░░░░░░░░ step 50 of 200, 239 images/s, loss 0.5" in lines
    assert "  loss  █▃▁ 2 to 0.5" in lines
    assert "  pods  ██████████░░░░░░░░░░ 2 of 4 run, 16 cards held" in lines


def test_without_a_number_of_steps_or_a_loss_there_is_nothing_to_draw() -> None:
    lines = drawn(dataclasses.replace(STATUS, progress=Progress(50)))
    assert "  done  step 50" in lines
    assert not [line for line in lines if line.startswith("  loss")]


def test_plain_text_has_no_drawings() -> None:
    text = status_text(STATUS, NOW, colour=False)
    assert "  done  step 50 of 200, 239 images/s, loss 0.5\n" in text
    assert not set(text) & set(BLOCKS)


def test_the_panel_also_has_the_workers_by_state_and_the_last_event() -> None:
    states = (("Running", 2), ("ContainerCreating", 1))
    event = NOW - timedelta(seconds=30), "job-worker-2: FailedMount: \x1b[2J no such folder"
    status = dataclasses.replace(STATUS, worker_states=states, last_event=event)
    lines = panel_text(status, NOW, colour=False, drawn=True).splitlines()
    assert "  nodes 2 Running, 1 ContainerCreating" in lines
    assert "  last  30 s ago: job-worker-2: FailedMount:  [2J no such folder" in lines
    assert lines[:4] == drawn(STATUS)[:4]
    assert lines[-1] == drawn(STATUS)[-1]
    ended = dataclasses.replace(status, finished=True, last_event=None)
    assert not [line for line in panel_text(ended, NOW, colour=False).splitlines() if line.startswith("  nodes")]


def test_the_table_shows_the_share_of_the_cards_that_is_held() -> None:
    waiting = dataclasses.replace(STATUS, name="other", held_cards=0, cards=0)
    head, first, second = table([STATUS, waiting], NOW, colour=False, namespaces=False, drawn=True).splitlines()
    column = head.index("HOLDS")
    assert first[column:].startswith("███░░ 16   ")
    assert second[column:].startswith("0 ")
    assert not set(table([STATUS], NOW, colour=False, namespaces=False)) & set(BLOCKS)


def test_the_curve_is_of_the_lines_of_the_log_and_not_in_the_json() -> None:
    lines = ["step=1/4 loss=2.5", "noise", "step=2/4 loss=nan", "step=3/4 loss=1.5", '{"step": 4, "loss": null}']
    progress = progress_of(lines, None)
    assert progress is not None
    assert progress.losses == (2.5, 1.5)
    assert "losses" not in progress.as_dict()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    spec = {"slotsPerWorker": 8, "mpiReplicaSpecs": {"Worker": {"replicas": 1, "template": {"spec": {}}}}}
    metadata = {"name": "job", "namespace": NAMESPACE, "uid": "uid-job", "labels": {"mpikit/user": "ada"}}
    job = {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1", "metadata": metadata, "spec": spec}
    made.server.store.put("ADDED", "mpijobs", with_status(job, "Running"))
    made.server.store.put("ADDED", "pods", pod(NAMESPACE, "job", "worker", "job-worker-0", "uid-w", "uid-job"))
    yield made
    made.close()


def test_a_terminal_gets_bars_and_a_pipe_or_an_ascii_terminal_does_not(world: World) -> None:
    command = [sys.executable, "generate.py", "status", "job", "-n", NAMESPACE, "--set", "user=ada", "--no-user-file"]
    command += ["--kubeconfig", str(world.kubeconfig)]
    seen = on_terminal(command, {"PYTHONIOENCODING": "utf-8"}, cwd=ROOT).data.decode()
    assert set(seen) & set(BLOCKS), seen
    plain = on_terminal(command, {"PYTHONIOENCODING": "ascii"}, cwd=ROOT).data.decode()
    assert "2588" not in plain
    assert "pods" in plain
    piped = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert not set(piped) & set(BLOCKS)


def test_a_watched_job_is_drawn_in_place_on_a_terminal_and_in_lines_in_a_pipe(world: World) -> None:
    ended = dict(world.server.store.get("mpijobs", NAMESPACE, "job"))
    world.server.store.put("MODIFIED", "mpijobs", with_status(ended, "Succeeded"))
    command = [sys.executable, "generate.py", "status", "job", "--watch", "-n", NAMESPACE, "--set", "user=ada"]
    command += ["--no-user-file", "--kubeconfig", str(world.kubeconfig)]
    seen = on_terminal(command, {"PYTHONIOENCODING": "utf-8"}, cwd=ROOT).data
    assert seen.startswith(b"\x1b[Hjob  ")
    assert seen.endswith(b"\x1b[K\r\n\x1b[J")
    assert b"\x1b[2J" not in seen
    piped = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "\x1b" not in piped
    assert piped.splitlines()[-1].startswith("job: Succeeded")
