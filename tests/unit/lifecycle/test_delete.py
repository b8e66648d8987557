# SPDX-License-Identifier: Apache-2.0
"""delete and status count only what an MPIJob owns: other operators use the same labels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpikit.errors import NotFound, ValuesError
from mpikit.lifecycle.delete import delete_job
from mpikit.status.snapshot import read_all_snapshots, read_snapshot
from tests.conftest import Command
from tests.support.scripted.operator import NAME, owner_of, pod, with_status
from tests.support.scripted.server import Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

UID, LAUNCHER_UID = "uid-of-bert", "uid-of-its-launcher-job"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


def put(world: World, plural: str, item: Object) -> None:
    world.server.store.put("ADDED", plural, copy.deepcopy(item))


def mpijob(name: str, uid: str = UID, user: str = "", configs: tuple[str, ...] = ()) -> Object:
    volumes = [{"name": "kit", "configMap": {"name": config}} for config in configs]
    spec = {"mpiReplicaSpecs": {"Worker": {"replicas": 1, "template": {"spec": {"volumes": volumes}}}}}
    labels = {"labels": {"mpikit/user": user}} if user else {}
    head = {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1"}
    return with_status(
        {**head, "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, **labels}, "spec": spec}, "Running"
    )


def launcher_job(name: str, uid: str = LAUNCHER_UID, owner: str = UID) -> Object:
    reference = owner_of(name, "worker", owner)
    metadata = {"name": f"{name}-launcher", "namespace": NAMESPACE, "uid": uid, "ownerReferences": [reference]}
    return {"kind": "Job", "apiVersion": "batch/v1", "metadata": {**metadata, "labels": {NAME: name}}}


def config_map(name: str, instance: str, manager: str = "mpikit", user: str = "") -> Object:
    labels = {"app.kubernetes.io/managed-by": manager, "app.kubernetes.io/instance": instance}
    labels |= {"mpikit/user": user} if user else {}
    metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "labels": labels}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}


def owned(name: str, role: str, owner: dict[str, str]) -> Object:
    """A pod with bert's labels and this owner; none if `owner` is empty."""
    item = pod(NAMESPACE, "bert", role, name, f"uid-{name}")
    item["metadata"]["ownerReferences"] = [owner] if owner else []
    return item


STRANGERS = {
    "a PyTorchJob": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "bert", "uid": "uid-of-torch"},
    "a TFJob of the MPIJob's uid": {"apiVersion": "kubeflow.org/v1", "kind": "TFJob", "name": "bert", "uid": UID},
    "an MPIJob of another group": {"apiVersion": "x.example/v1", "kind": "MPIJob", "name": "bert", "uid": UID},
    "another MPIJob": {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "name": "bert-2", "uid": "uid-2"},
    "another Job": {"apiVersion": "batch/v1", "kind": "Job", "name": "bert", "uid": "uid-of-job"},
    "a ReplicaSet": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "bert-launcher", "uid": LAUNCHER_UID},
    "nobody": {},
}


def left(world: World, plural: str) -> set[str]:
    return {item["metadata"]["name"] for item in world.server.store.of(plural)}


def remove(world: World, user: str | None = None) -> Any:
    return delete_job(world.cluster(), NAMESPACE, "bert", 60.0, True, str, user)


@pytest.mark.parametrize("owner", STRANGERS)
@pytest.mark.parametrize("role", ["worker", "launcher", "master"])
@pytest.mark.parametrize("job_exists", [True, False])
def test_a_pod_of_something_else_is_neither_deleted_nor_shown(
    world: World, owner: str, role: str, job_exists: bool
) -> None:
    put(world, "pods", owned("stranger", role, STRANGERS[owner]))
    if job_exists:
        put(world, "mpijobs", mpijob("bert"))
        put(world, "pods", pod(NAMESPACE, "bert", "worker", "bert-worker-0", "uid-w", UID))
        assert [one.name for one in read_snapshot(world.cluster(), NAMESPACE, "bert").pods] == ["bert-worker-0"]
        assert remove(world).lines
    else:
        with pytest.raises(NotFound):
            remove(world)
        assert not read_all_snapshots(world.cluster(), NAMESPACE)
    assert left(world, "pods") == {"stranger"}


def test_orphans_of_the_job_are_deleted_by_their_owner(world: World) -> None:
    put(world, "jobs", launcher_job("bert"))
    put(world, "pods", pod(NAMESPACE, "bert", "worker", "bert-worker-0", "uid-w", UID))
    put(world, "pods", pod(NAMESPACE, "bert", "launcher", "bert-launcher-x", "uid-l", LAUNCHER_UID))
    remove(world)
    assert (left(world, "pods"), left(world, "jobs")) == (set(), set())


def test_pods_that_kubernetes_still_collects_are_left_to_it(world: World) -> None:
    """It takes a minute for thousands of them; each request of ours would only add to that."""
    for number in range(12):
        put(world, "pods", pod(NAMESPACE, "bert", "worker", f"bert-worker-{number}", f"uid-{number}", UID))
    world.server.operator.orphans = True

    def collect() -> None:
        for item in world.server.store.of("pods")[:1]:
            world.server.store.put("DELETED", "pods", item)

    world.clock.hears.append(collect)
    put(world, "mpijobs", mpijob("bert"))
    remove(world)
    assert left(world, "pods") == set()
    assert not [one for one in world.server.requests if one.method == "DELETE" and "/pods/" in one.path]


@pytest.mark.parametrize("job_exists", [True, False])
def test_a_job_of_the_launchers_name_that_the_mpijob_does_not_own_stays_with_its_pods(
    world: World, job_exists: bool
) -> None:
    job = launcher_job("bert", uid="uid-by-hand")
    job["metadata"]["ownerReferences"] = []
    put(world, "jobs", job)
    put(world, "pods", pod(NAMESPACE, "bert", "launcher", "bert-launcher-x", "uid-l", "uid-by-hand"))
    put(world, "pods", pod(NAMESPACE, "bert", "worker", "bert-worker-0", "uid-w", UID))
    if job_exists:
        put(world, "mpijobs", mpijob("bert"))
    remove(world)
    assert (left(world, "jobs"), left(world, "pods")) == ({"bert-launcher"}, {"bert-launcher-x"})


def test_a_job_made_anew_while_its_pods_are_awaited_stays(world: World) -> None:
    put(world, "mpijobs", mpijob("bert", "uid-old"))
    put(world, "pods", pod(NAMESPACE, "bert", "worker", "bert-worker-0", "uid-w", "uid-old"))

    def submitted_again(_: str) -> None:
        put(world, "mpijobs", mpijob("bert", "uid-new"))
        put(world, "pods", pod(NAMESPACE, "bert", "worker", "bert-worker-0", "uid-w2", "uid-new"))

    delete_job(world.cluster(), NAMESPACE, "bert", 60.0, True, submitted_again)
    assert (left(world, "mpijobs"), left(world, "pods")) == ({"bert"}, {"bert-worker-0"})


def test_config_maps_go_unless_another_mpijob_mounts_them(world: World) -> None:
    put(world, "mpijobs", mpijob("bert", configs=("bert-kit-1", "shared")))
    put(world, "mpijobs", mpijob("other", "uid-of-other", configs=("shared",)))
    for name, instance, manager in (
        ("bert-kit-1", "bert", "mpikit"),
        ("bert-kit-0", "bert", "mpikit"),
        ("shared", "bert", "mpikit"),
        ("of-helm", "bert", "Helm"),
        ("other-kit", "other", "mpikit"),
    ):
        put(world, "configmaps", config_map(name, instance, manager))
    remove(world)
    assert left(world, "configmaps") == {"shared", "of-helm", "other-kit"}
    assert left(world, "mpijobs") == {"other"}


def board(kind: str, instance: str, component: str = "tensorboard", user: str = "ada") -> Object:
    labels = {"app.kubernetes.io/managed-by": "mpikit", "app.kubernetes.io/instance": instance, "mpikit/user": user}
    name = f"{instance}-{component}"
    metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{kind}-{name}", "labels": dict(labels)}
    metadata["labels"]["app.kubernetes.io/component"] = component
    return {"kind": kind, "apiVersion": "v1", "metadata": metadata}


@pytest.mark.parametrize("job_exists", [True, False])
def test_the_tensorboard_of_a_job_is_deleted_with_it_and_nothing_else(world: World, job_exists: bool) -> None:
    if job_exists:
        put(world, "mpijobs", mpijob("bert"))
    for plural, kind in (("jobs", "Job"), ("services", "Service")):
        put(world, plural, board(kind, "bert"))
        put(world, plural, board(kind, "bert-2"))
        put(world, plural, board(kind, "bert", "prepare"))
    lines = remove(world, "ada").lines
    assert left(world, "jobs") == left(world, "services") == {"bert-2-tensorboard", "bert-prepare"}
    assert 'job.batch "bert-tensorboard" deleted' in lines
    assert 'service "bert-tensorboard" deleted' in lines


def test_the_tensorboard_of_another_user_needs_force(world: World) -> None:
    put(world, "services", board("Service", "bert", user="bob"))
    with pytest.raises(ValuesError, match="belongs to bob"):
        remove(world, "ada")


@pytest.mark.parametrize(
    ("label", "user", "said"),
    [
        ("bob", "ada", "MPIJob bert belongs to bob, not to ada\n  fix: --set user=bob if that is you, or --force"),
        ("bob", "", "belongs to bob, and your user name is unknown\n  fix: --set user=bob"),
    ],
)
def test_the_job_of_another_user_needs_force(world: World, label: str, user: str, said: str) -> None:
    put(world, "mpijobs", mpijob("bert", user=label))
    with pytest.raises(ValuesError, match=said):
        remove(world, user)
    assert left(world, "mpijobs") == {"bert"}
    remove(world, None)
    assert left(world, "mpijobs") == set()


def test_what_another_user_left_behind_needs_force_too(world: World) -> None:
    put(world, "configmaps", config_map("bert-kit", "bert", user="bob"))
    with pytest.raises(ValuesError, match="belongs to bob"):
        remove(world, "ada")


@pytest.mark.parametrize("label", ["", "ada"])
def test_ones_own_job_and_one_without_a_label_need_no_force(world: World, label: str) -> None:
    put(world, "mpijobs", mpijob("bert", user=label))
    remove(world, "ada")
    assert left(world, "mpijobs") == set()


def test_delete_takes_the_user_from_the_values(world: World, generate: Command) -> None:
    put(world, "mpijobs", mpijob("bert", user="bob"))
    place = ("--kubeconfig", str(world.kubeconfig), "-n", NAMESPACE, "--no-wait")
    refused = generate("delete", "bert", *place)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "NAME: MPIJob bert belongs to bob, not to ada\n  fix: " in refused.stderr
    assert generate("delete", "bert", *place, "--force").returncode == 0


def test_a_pod_that_only_an_earlier_job_of_the_name_owned_is_not_deleted_with_the_new_one(world: World) -> None:
    put(world, "mpijobs", mpijob("bert", "uid-new"))
    put(world, "pods", pod(NAMESPACE, "bert", "worker", "bert-worker-0", "uid-w", "uid-old"))
    remove(world)
    assert left(world, "pods") == {"bert-worker-0"}
