# SPDX-License-Identifier: Apache-2.0
"""`status` when a node does not take a pod, or stops: simulated nodes, judged by the real controllers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator

import pytest
import yaml
from faults import SLEEP, both, containers, pods
from jobs import generate, settings
from kube import Kube, Object, wait_for
from test_status import SMALL, status
from testcluster import simulated

MARK = "mpikit.test/own"  # label of a node that one test has for itself
AWAY_SECONDS = 90  # the node controller waits 50 s for a node
NOW = "2026-11-27T00:00:00Z"
READY = {"type": "Ready", "status": "True", "reason": "Test", "lastTransitionTime": NOW, "lastHeartbeatTime": NOW}


@pytest.fixture
def own_node(kube: Kube, simulated_namespace: str) -> Iterator[Callable[..., str]]:
    """Make a node for this test alone, and remove it afterwards with its pods, which no kubelet would end."""
    name = f"own-{simulated_namespace}"

    def make(**spec: object) -> str:
        node = simulated.node(name, "own", {"cpu": "8", "memory": "8Gi"})
        node["metadata"]["labels"][MARK] = name
        node["metadata"].pop("annotations")  # kwok leaves it alone
        node["status"]["conditions"] = [READY]
        kube.create({**node, "spec": spec})
        return name

    yield make
    on_it = ("--field-selector", f"spec.nodeName={name}")
    kube("-n", simulated_namespace, "delete", "pods", *on_it, "--force", "--grace-period=0")
    kube("delete", "node", name)


def plant(kube: Kube, namespace: str, node: str) -> str:
    """A job whose worker goes to a node; its name."""
    config, job = yaml.safe_load_all(
        generate("-f", "values/cpu.yaml", *settings(user="ada", name="n"), "-n", namespace)
    )
    both(SMALL, containers(["Launcher"], command=SLEEP), pods(["Worker"], nodeSelector={MARK: node}))(job)
    kube.create(config, job)
    return str(job["metadata"]["name"])


def verdict(kube: Kube, namespace: str, name: str, reason: str) -> Object:
    """The status of a job once it has this reason."""

    def found() -> Object | None:
        said = status(kube, namespace, name)
        return said if said["reason"] == reason else None

    answer: Object = wait_for(f"reason {reason}", found, AWAY_SECONDS)
    return answer


def test_a_taint_that_the_worker_does_not_tolerate_is_named(
    kube: Kube, simulated_namespace: str, own_node: Callable[..., str]
) -> None:
    node = own_node(taints=[{"key": "site.example/broken", "effect": "NoSchedule"}])
    found = verdict(kube, simulated_namespace, plant(kube, simulated_namespace, node), "Unschedulable")
    assert "untolerated taint" in found["message"]
    assert "set worker.tolerations" in found["advice"]


def test_a_worker_on_a_node_that_stops_is_not_called_running(
    kube: Kube, simulated_namespace: str, own_node: Callable[..., str]
) -> None:
    """Stand-in for a kubelet that reports once and is gone. What follows is said by the node controller, after 50 s."""
    node = own_node()
    name = plant(kube, simulated_namespace, node)
    worker = f"{name}-worker-0"
    wait_for(
        "the worker's node", lambda: kube.get(simulated_namespace, "pod", worker).get("spec", {}).get("nodeName"), 60
    )
    set_status(kube, "pod", worker, running(kube.get(simulated_namespace, "pod", worker)), "-n", simulated_namespace)
    wait_for("the job to run", functools.partial(runs, kube, simulated_namespace, name), 60)
    found = verdict(kube, simulated_namespace, name, "NodeLost")
    assert found["verdict"] == "Stalled"
    assert f"node {node} does not answer: the state of {worker} is unknown" in found["message"]
    assert found["pods_running"] < found["pods_wanted"]
    assert f"kubectl get node {node}" in found["advice"]
    kube("-n", simulated_namespace, "delete", "pod", worker, "--wait=false")
    assert f"the state of {worker} is being deleted" in verdict(kube, simulated_namespace, name, "NodeLost")["message"]


def runs(kube: Kube, namespace: str, name: str) -> bool:
    """Whether `status` says so."""
    return bool(status(kube, namespace, name)["verdict"] == "Running")


def set_status(kube: Kube, kind: str, name: str, found: Object, *more: str) -> None:
    """Write a status as a kubelet does."""
    words = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": found}))
    kube(*more, "patch", kind, name, *words)


def running(pod: Object) -> Object:
    """The status of a pod that runs."""
    up = {"imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": NOW}}}
    states = [{"name": one["name"], "image": one["image"], **up} for one in pod["spec"]["containers"]]
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": NOW}
    return {"phase": "Running", "conditions": [condition], "containerStatuses": states}
