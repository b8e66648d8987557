# SPDX-License-Identifier: Apache-2.0
"""Which nodes `repair` excludes: those that are named, or with `auto` those of the launcher's log. Scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpikit.cli.recovery import _move, _suspects
from mpikit.errors import ValuesError
from mpikit.kube.resources import MPIJob
from tests.support.scripted.operator import pod
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

NAMED = "run_vit.sh: node {} has caused 2 failures (a rank hangs): python generate.py repair vit"
LOG = [NAMED.format("bad"), "step=1/2 loss=0.1", NAMED.format("worse"), NAMED.format("bad")]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    """Stand-in for a Session: a cluster with one node and a launcher with the lines of LOG."""
    world = World(Scripted(), tmp_path / "world")

    def answer(request: Request, handler: Handler) -> bool:
        if request.path.endswith("/log"):
            handler.send(200, "\n".join(LOG).encode(), {"Content-Type": "text/plain"})
        elif request.path.endswith("/nodes"):
            handler.send(200, json.dumps({"kind": "NodeList", "items": [{"metadata": {"name": "good"}}]}).encode())
        return request.path.endswith(("/log", "/nodes"))

    world.server.answer = answer
    world.server.store.put("ADDED", "pods", pod(NAMESPACE, "vit", "launcher", "vit-launcher-x", "l"))
    yield SimpleNamespace(cluster=world.cluster(), namespace=NAMESPACE)
    world.close()


def job(**annotations: str) -> MPIJob:
    notes = {f"mpikit/{key.replace('_', '-')}": value for key, value in annotations.items()}
    found: Object = {"metadata": {"name": "vit", "namespace": NAMESPACE, "annotations": notes}, "spec": {}}
    return MPIJob(found)


def test_without_auto_no_node_is_excluded_unasked(session: Any) -> None:
    assert _suspects(session, job()) == ()


def test_with_auto_the_nodes_of_the_log_are_taken_up_to_max(session: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert _suspects(session, job(exclude_auto="true", exclude_max="5")) == ("bad", "worse")
    assert _suspects(session, job(exclude_auto="true", exclude_max="1")) == ("bad",)
    said = capsys.readouterr().err
    assert "node worse has caused 2 failures (a rank hangs)" in said
    assert "not excluded: worse; restarts.exclude.max is 1" in said


def test_a_node_that_is_excluded_already_is_not_taken_again(session: Any) -> None:
    found = _suspects(session, job(exclude_auto="true", exclude_max="2", excluded_nodes="bad"))
    assert found == ("bad", "worse")
    assert _suspects(session, job(exclude_auto="true", exclude_max="2", excluded_nodes="bad,worse")) == ()


def test_a_node_that_does_not_exist_is_an_error(session: Any) -> None:
    with pytest.raises(ValuesError, match="this cluster has no node gaudi-99"):
        _move(session, job(), ("gaudi-99",), 60)
