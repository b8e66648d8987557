# SPDX-License-Identifier: Apache-2.0
"""`logs -o json` of a pod whose log has today's progress lines and an older trainer's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.scripted.operator import ended, pod, with_status
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import NAMESPACE, World

STAMP = "2026-11-25T03:00:00Z "
OLD = {"step": 50, "loss": 1.5, "top1_percent": None, "images_per_second": 240.0}
LINES = ("run_vit.sh: ready", json.dumps(OLD), "step=100/1500 loss=0.412 top1=91.2% images_per_second=239 left=6m12s")


def log_lines(request: Request, handler: Handler) -> bool:
    if not request.path.endswith("/log"):
        return False
    handler.send(200, "".join(f"{STAMP}{line}\n" for line in LINES).encode(), {"Content-Type": "text/plain"})
    return True


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server with the failed job `job`."""
    made = World(Scripted(), tmp_path / "world")
    made.server.store.on_change = lambda what, item: None
    meta = {"name": "job", "namespace": NAMESPACE, "uid": "uid", "creationTimestamp": None}
    job = {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1", "metadata": meta, "spec": {}}
    made.server.store.put("ADDED", "mpijobs", with_status(job, "Running"))
    launcher = ended(pod(NAMESPACE, "job", "launcher", "job-launcher-x", "uid-2"), 1, "Running")
    made.server.store.put("ADDED", "pods", launcher)
    made.server.answer = log_lines
    yield made
    made.close()


def run(world: World, *words: str) -> str:
    where = ("-n", NAMESPACE, "--kubeconfig", str(world.kubeconfig), "--no-user-file")
    command = [sys.executable, "generate.py", *words, "job", *where]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60).stdout


def test_each_progress_line_is_an_object_with_the_names_of_metrics_jsonl(world: World) -> None:
    old, new = map(json.loads, run(world, "logs", "-o", "json").splitlines())
    assert old == OLD
    assert (new["step"], new["num_steps"], new["loss"], new["top1_percent"]) == (100, 1500, 0.412, 91.2)
    assert new["seconds_left"] == 372


def test_as_text_every_line_is_as_it_was(world: World) -> None:
    assert run(world, "logs").splitlines() == list(LINES)


def test_status_shows_the_newest_line(world: World) -> None:
    progress = json.loads(run(world, "status", "-o", "json"))["progress"]
    assert (progress["step"], progress["num_steps"], progress["top1_percent"]) == (100, 1500, 91.2)
