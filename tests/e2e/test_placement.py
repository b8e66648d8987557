# SPDX-License-Identifier: Apache-2.0
"""Workers on nodes: they share the only real node by default, and wait there with worker.onePerNode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jobs import RunningJob, settings, submit
from kube import Kube, wait_for
from test_doctor import examined
from test_status import status


def words_for(values: Sequence[str], **more: object) -> list[str]:
    return ["-f", "values/cpu.yaml", *values, "--nodes", "2", *settings(user="ada", **more)]


def nodes_of(job: RunningJob) -> list[str]:
    """The node of each worker; empty for one that waits."""
    return [pod["spec"].get("nodeName", "") for pod in job.pods("worker")]


def test_two_workers_share_the_only_node_by_default(kube: Kube, namespace: str, real_node_values: list[str]) -> None:
    """Judged by the scheduler and the operator; doctor announces it."""
    files = ("values/cpu.yaml", *real_node_values[1::2])
    told = next(one for one in examined(kube.kubeconfig, namespace, files, nodes=2) if one.key == "nodes")
    assert (told.severity, "; workers share nodes, which" in told.message) == ("ok", True), told
    job = submit(kube, namespace, words_for(real_node_values))
    job.wait_running()
    first, second = nodes_of(job)
    assert first == second != ""
    assert job.wait_end(120) == "Succeeded", job.story()


def test_with_one_per_node_the_second_worker_waits_and_says_why(
    kube: Kube, namespace: str, real_node_values: list[str]
) -> None:
    """Judged by the scheduler: the second worker stays Pending. doctor says so before, status afterwards."""
    more: dict[str, Any] = {"worker__onePerNode": "true"}
    files = ("values/cpu.yaml", *real_node_values[1::2])
    checks = examined(kube.kubeconfig, namespace, files, nodes=2, **more)
    told = next(one for one in checks if one.key == "nodes")
    assert (told.severity, told.message) == (
        "fault",
        "1 node can ever have room for cpu 0.2, memory 512Mi, 2 are needed; worker.onePerNode is true",
    )
    assert told.fix == "set nodes: 1 or fewer, or set worker.onePerNode: false if workers may share a node"
    job = submit(kube, namespace, words_for(real_node_values, **more))
    wait_for("a worker to wait", lambda: status(kube, namespace, job.name)["verdict"] == "Unschedulable", 60)
    found = status(kube, namespace, job.name)
    assert sorted(nodes_of(job))[0] == ""
    assert "didn't match pod anti-affinity rules" in found["message"]
    assert f"MPIJob {job.name} with fewer nodes, or with worker.onePerNode: false" in found["advice"]


@pytest.mark.parametrize("required", ["true", "false"])
def test_workers_go_to_different_nodes_where_there_are_enough(
    kube: Kube, simulated_namespace: str, required: str, tmp_path: Path
) -> None:
    """Judged by the scheduler, on simulated nodes with 8 cards; each worker requests one."""
    own = tmp_path / "small.yaml"
    own.write_text("resources: {limits: {cpu: '1', memory: 1Gi}}\nhost: null\n")
    more = settings(user="ada", serviceAccountName="default", worker__onePerNode=required)
    job = submit(kube, simulated_namespace, ["-f", str(own), "--nodes", "8", "--cards", "1", *more])
    wait_for("all workers to have a node", lambda: len(list(filter(None, nodes_of(job)))) == 8, 60)
    assert len(set(nodes_of(job))) == 8
