# SPDX-License-Identifier: Apache-2.0
"""Workers in the network of their node, whose port 22 is the node's: another port, and one worker a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs import json_lines, settings, submit
from kube import Kube, wait_for

POD = '{"hostNetwork": true}'


def words(values: Sequence[str], output: Path, nodes: int) -> list[str]:
    """The smoke test on workers with hostNetwork."""
    more = settings(user="ada", output=output, train__num_steps=20, train__eval_every=20, worker__podSpec=POD)
    return ["-f", "values/cpu.yaml", *values, "--nodes", str(nodes), *more]


def test_a_worker_in_the_network_of_its_node_is_reached_by_ssh(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the operator (Succeeded), the API server (hostIP is podIP) and the trainer's own file."""
    job = submit(kube, namespace, words(real_node_values, output, nodes=1))
    worker = wait_for("the worker to get an address", lambda: [pod for pod in job.pods("worker") if ip(pod)], 60)[0]
    assert ip(worker) == worker["status"]["hostIP"]
    assert job.wait_end(120) == "Succeeded", job.story()
    assert [line["step"] for line in json_lines(output / "synthetic" / "metrics.jsonl")][-1] == 20


def test_two_such_workers_do_not_share_a_node(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the scheduler: the second stays Pending and says why."""
    job = submit(kube, namespace, words(real_node_values, output, nodes=2))
    rule = "didn't have free ports for the requested pod ports"
    wait_for("the scheduler to refuse", lambda: any(rule in line for line in kube.events(namespace)), 60)
    placed = {pod["spec"].get("nodeName") for pod in job.pods("worker")}
    assert None in placed, job.story()


def ip(pod: dict[str, dict[str, str]]) -> str:
    """A pod's address; empty before it has one."""
    return pod["status"].get("podIP", "")
