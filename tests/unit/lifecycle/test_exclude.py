# SPDX-License-Identifier: Apache-2.0
"""Moving a live job off a node. The scripted server stands in for the API server, and `Operator` below for what the
MPI Operator does with a suspended job; tests/e2e/test_voyager.py has the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mpikit.errors import JobError, Timeout
from mpikit.kube.affinity import with_hosts
from mpikit.kube.resources import MPIJob
from mpikit.lifecycle.exclude import exclude, exclusion_of
from mpikit.lifecycle.repair import live_job
from mpikit.preflight.nodes import moves
from tests.support.scripted.operator import ended, pod
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
RULE = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["bad"]}
GAUDI = {"key": "class", "operator": "In", "values": ["gaudi"]}
BIG = {"key": "size", "operator": "Exists"}


def affinity(*terms: Object) -> Object:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, affinity({"matchExpressions": [RULE]})),
        (affinity({"matchExpressions": [GAUDI]}), affinity({"matchExpressions": [GAUDI, RULE]})),
        (
            affinity({"matchExpressions": [GAUDI]}, {"matchFields": [BIG]}),
            affinity({"matchExpressions": [GAUDI, RULE]}, {"matchFields": [BIG], "matchExpressions": [RULE]}),
        ),
        (affinity({"matchExpressions": [GAUDI]}, {}), affinity({"matchExpressions": [GAUDI, RULE]}, {})),
        (
            affinity({"matchExpressions": [{**RULE, "values": ["worse"]}]}),
            affinity({"matchExpressions": [{**RULE, "values": ["bad", "worse"]}]}),
        ),
    ],
)
def test_every_alternative_of_the_affinity_gets_the_rule_once(before: Object, after: Object) -> None:
    """A term without a rule matches no node, and must not begin to match all others."""
    assert with_hosts(before, "NotIn", ["bad"]) == after
    assert with_hosts(after, "NotIn", ["bad"]) == after


def test_other_parts_of_the_affinity_stay() -> None:
    own = {"podAntiAffinity": {REQUIRED: []}, "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    found = with_hosts(own, "NotIn", ["bad"])
    assert found["podAntiAffinity"] == own["podAntiAffinity"]
    assert found["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == []


def mpijob(**annotations: str) -> Object:
    container = {"name": "worker", "resources": {"limits": {"habana.ai/gaudi": "8"}}}
    worker = {"replicas": 2, "template": {"spec": {"containers": [container]}}}
    metadata = {"name": "vit", "namespace": NAMESPACE, "uid": "u", "annotations": annotations}
    spec = {"runPolicy": {}, "mpiReplicaSpecs": {"Worker": worker}}
    return {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1", "metadata": metadata, "spec": spec}


@dataclass
class Operator:
    """Deletes the running pods of a suspended job at the second list of pods that it sees; `slow`: never."""

    world: World
    slow: bool = False
    lists: int = 0

    def __call__(self, request: Request, _handler: Handler) -> bool:
        store = self.world.server.store
        if request.method != "GET" or not request.path.endswith("/pods"):
            return False
        self.lists += MPIJob(store.get("mpijobs", NAMESPACE, "vit")).suspended
        for (plural, *_), item in list(store.objects.items()) if self.lists == 2 and not self.slow else ():
            if plural == "pods" and item["status"]["phase"] == "Running":
                store.put("DELETED", "pods", item)
        return False


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    made.server.store.put("ADDED", "mpijobs", mpijob())
    made.server.store.put("ADDED", "pods", pod(NAMESPACE, "vit", "launcher", "vit-launcher-x", "l"))
    made.server.store.put("ADDED", "pods", pod(NAMESPACE, "vit", "worker", "vit-worker-0", "w0", "u"))
    failed = ended(pod(NAMESPACE, "vit", "worker", "vit-worker-1", "w1", "u"), 1)
    made.server.store.put("ADDED", "pods", failed)
    made.server.operator.due.clear()
    made.server.answer = Operator(made)
    yield made
    made.close()


def call(world: World, *nodes: str, seconds: float = 60) -> list[str]:
    """What `repair --exclude` does after its checks; the lines that it prints."""
    said: list[str] = []
    cluster = world.cluster()
    plan = exclusion_of(live_job(cluster, NAMESPACE, "vit", None), nodes, {"bad": "bad.example"})
    if not plan.done:
        exclude(cluster, plan, seconds, said.append)
    return said


def stored(world: World) -> MPIJob:
    return MPIJob(world.server.store.get("mpijobs", NAMESPACE, "vit"))


def test_a_job_is_suspended_changed_and_resumed_once_its_pods_are_gone(world: World) -> None:
    """A worker that had failed is deleted too: the operator keeps it over a suspension."""
    assert call(world, "bad") == [
        "MPIJob vit is suspended; its ranks save and end",
        "MPIJob vit is resumed, without bad",
    ]
    job = stored(world)
    assert not job.suspended
    assert job.excluded == ["bad"]
    rule = {**RULE, "values": ["bad.example"]}
    assert job.template("Worker")["spec"]["affinity"] == affinity({"matchExpressions": [rule]})
    assert not [key for key in world.server.store.objects if key[0] == "pods"]


def test_a_second_call_changes_nothing(world: World) -> None:
    call(world, "bad")
    assert call(world, "bad") == []


def test_a_call_that_was_interrupted_is_finished_by_the_next_one(world: World) -> None:
    world.server.answer = Operator(world, slow=True)
    with pytest.raises(Timeout, match="still being ended, and the job is suspended"):
        call(world, "bad", seconds=4)
    assert stored(world).suspended
    world.server.answer = Operator(world)
    call(world, "bad")
    assert not stored(world).suspended


def test_a_job_that_its_user_suspended_stays_so(world: World) -> None:
    job = mpijob()
    job["spec"]["runPolicy"]["suspend"] = True
    world.server.store.put("MODIFIED", "mpijobs", job)
    assert call(world, "bad") == ["MPIJob vit was suspended before, and stays so"]
    assert stored(world).suspended


def test_no_more_than_max_nodes_are_excluded(world: World) -> None:
    call(world, "bad")
    with pytest.raises(JobError, match=r"may exclude 1 nodes \(restarts.exclude.max\), and bad, worse are 2"):
        call(world, "worse")
    world.server.store.put("MODIFIED", "mpijobs", mpijob(**{"mpikit/exclude-max": "2"}))
    assert exclusion_of(stored(world), ["bad", "worse"], {}).nodes == ("bad", "worse")


def test_a_job_of_kueue_is_left_alone() -> None:
    job = mpijob()
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "q"}
    with pytest.raises(JobError, match="Kueue suspends and resumes"):
        exclusion_of(MPIJob(job), ["bad"], {})


class Cards:
    """Stand-in for the lists of nodes and pods: three nodes of 8 cards, one used by another job."""

    def json(self, call: Any) -> Object:
        if call.path.endswith("/nodes"):
            have = {"cpu": "64", "memory": "1Ti", "pods": "110", "habana.ai/gaudi": "8"}
            status = {"allocatable": have, "conditions": [{"type": "Ready", "status": "True"}]}
            names = ("bad", "good", "other")
            labels = [{"kubernetes.io/hostname": name} for name in names]
            return {
                "items": [
                    {"metadata": {"name": name, "labels": label}, "spec": {}, "status": status}
                    for name, label in zip(names, labels, strict=True)
                ]
            }
        container = {"name": "worker", "resources": {"limits": {"habana.ai/gaudi": "8"}}}
        pods = [("vit-worker-0", "vit", "bad"), ("vit-worker-1", "vit", "good"), ("x", "x", "other")]
        return {
            "items": [
                {
                    "metadata": {
                        "name": name,
                        "namespace": NAMESPACE,
                        "labels": {"training.kubeflow.org/job-name": job},
                    },
                    "spec": {"nodeName": node, "containers": [container]},
                    "status": {"phase": "Running"},
                }
                for name, job, node in pods
            ]
        }


@pytest.mark.parametrize(
    ("workers", "severity", "message"),
    [
        (1, "ok", "room for 1 workers, 1 are needed"),
        (2, "fault", "room for 1 workers now, 2 are needed"),
        (3, "fault", "can ever have 2 workers, 3 are needed"),
    ],
)
def test_the_nodes_that_stay_must_hold_the_workers(workers: int, severity: str, message: str) -> None:
    """The job's own pods count as gone; those of another job do not."""
    plan = exclusion_of(MPIJob(mpijob()), ["bad"], {})
    found = moves(Cards(), "vit", NAMESPACE, plan.template, workers)  # type: ignore[arg-type]  # a stand-in
    assert (found.severity, message in found.message) == (severity, True), found
