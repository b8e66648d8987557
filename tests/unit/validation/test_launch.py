# SPDX-License-Identifier: Apache-2.0
"""How a job starts its ranks: mpirun's count against the slots, keys and ports of ssh, and what a gang waits for."""

# ruff: noqa: E501  # sentences for people, one a line, so that they can be searched for
from __future__ import annotations

from typing import Any

import pytest

from tests.support.small_job import Object, changed, container, env, mounts, place, resources, said, security


def command(*words: str, **spec: Any) -> Object:
    job = changed("launcher", command=list(words))
    place(job, "spec").update(spec)
    return job


SLOTS: dict[str, tuple[Object, list[str]]] = {
    "as many": (command("mpirun", "-np", "6", "a"), []),
    "no count": (command("mpirun", "a"), []),
    "a variable": (command("bash", "-c", "mpirun -np ${RANKS} a"), []),
    "more": (
        command("mpirun", "-np", "7", "a"),
        ["launcher.command: mpirun starts 7 ranks, but the hostfile has only 3 workers x 2 = 6 slots: Open MPI would start none"],
    ),
    "more than the default": (
        command("mpirun", "-n", "4", "a", slotsPerWorker=None),
        ["launcher.command: mpirun starts 4 ranks, but the hostfile has only 3 workers x 1 (the default of slotsPerWorker) = 3 slots: Open MPI would start none"],
    ),
    "more, of another MPI": (
        command("mpirun", "-n", "8", "a", mpiImplementation="Intel"),
        ["warning launcher.command: mpirun starts 8 ranks, but the hostfile has only 3 workers x 2 = 6 slots: ranks would share slots"],
    ),
    "more, allowed": (command("mpirun", "-np", "9", "--oversubscribe", "a"), []),
    "hosts of its own": (command("mpirun", "-np", "9", "-H", "a:9", "b"), []),
    "the launcher counts": (command("mpirun", "-np", "8", "a", runLauncherAsWorker=True), []),
    "fewer": (
        command("bash", "-c", "mpirun -np 1 a; mpirun -np 5 b"),
        ["warning launcher.command: mpirun starts 5 ranks, but the hostfile has 3 workers x 2 = 6 slots"],
    ),
    "more on each node": (
        command("mpirun", "--map-by", "ppr:4:node", "a"),
        ["launcher.command: mpirun starts 4 ranks on each node, but slotsPerWorker is 2: Open MPI would start none"],
    ),
    "more on each node than the default": (
        command("mpirun", "-N", "2", "a", slotsPerWorker=None),
        ["launcher.command: mpirun starts 2 ranks on each node, but the default of slotsPerWorker is 1: Open MPI would start none"],
    ),
    "as many on each node": (command("bash", "-c", "mpirun -npernode 2 a"), []),
    "more on each node, of another MPI": (command("mpirun", "-ppn", "4", "a", mpiImplementation="MPICH"), []),
    "fewer on each node": (command("mpirun", "-np", "3", "--map-by", "ppr:1:node", "a"), []),
    "no slots": (
        command("mpirun", "-np", "1", "a", slotsPerWorker=0),
        ["launcher.command: mpirun starts 1 rank, but the hostfile has only 3 workers x 0 = 0 slots: Open MPI would start none"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SLOTS)
def test_ranks_are_compared_with_slots(case: str) -> None:
    job, told = SLOTS[case]
    assert said(job) == told


def test_a_variable_can_allow_more_ranks_than_slots() -> None:
    job = command("mpirun", "-np", "9", "a")
    place(job, "launcher").update(env({"name": "PRTE_MCA_rmaps_default_mapping_policy", "value": ":OVERSUBSCRIBE"}))
    assert said(job) == []


@pytest.mark.parametrize(("mounted", "label"), [("c", "launcherPod.volumes[0]"), ("other", "")])
def test_mpirun_in_a_mounted_script_is_compared_too(mounted: str, label: str) -> None:
    job = changed("launcherPod", volumes=[{"name": "s", "configMap": {"name": mounted}}])
    place(job, "launcher").update(command=["bash", "/s/run.sh"], volumeMounts=mounts(("s", "/s")))
    script = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"run.sh": "mpirun -n 7 a\n"}}
    assert [line.partition(":")[0] for line in said(job, script)] == ([label] if label else [])


SSH: dict[str, tuple[Object, list[str]]] = {
    "a user and the keys of root": (
        changed("worker", **security(runAsUser=1000)),
        ["warning worker.securityContext.runAsUser: user 1000 cannot read the ssh keys, which the operator mounts at /root/.ssh"],
    ),
    "of the whole pod": (
        changed("launcherPod", **security(runAsUser=65534)),
        ["warning launcherPod.securityContext.runAsUser: user 65534 cannot read the ssh keys, which the operator mounts at /root/.ssh"],
    ),
    "no user but not root": (
        changed("launcherPod", **security(runAsNonRoot=True)),
        ["warning launcherPod.securityContext.runAsNonRoot: a user other than root cannot read the ssh keys, which the operator mounts at /root/.ssh"],
    ),
    "root again in the container": (changed("launcher", **security(runAsUser=0)), []),
    "a group for the launcher": (
        changed("launcherPod", **security(fsGroup=2000)),
        ["warning launcherPod.securityContext.fsGroup: makes the ssh key readable for group 2000, and ssh of root then ignores the key"],
    ),
    "a group for the workers": (changed("pod", **security(fsGroup=2000)), []),
    "the network of the node": (
        changed("pod", hostNetwork=True),
        ["warning pod.hostNetwork: sshd would listen on port 22 of the node, where the node's own sshd listens"],
    ),
    "and port 22": (
        changed("pod", hostNetwork=True, containers=[container("w", command=["/usr/sbin/sshd", "-De", "-p", "22"])]),
        ["warning pod.hostNetwork: sshd would listen on port 22 of the node, where the node's own sshd listens"],
    ),
    "and its own port": (
        changed("pod", hostNetwork=True, containers=[container("w", command=["bash", "-c", "sshd -De -o Port=2022"])]),
        [],
    ),
    "and its own configuration": (
        changed("pod", hostNetwork=True, containers=[container("w", args=["/usr/sbin/sshd", "-De", "-f", "/c"])]),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SSH)
def test_keys_and_ports_with_which_ssh_fails_are_reported(case: str) -> None:
    job, told = SSH[case]
    assert said(job) == told


def test_a_user_with_keys_in_its_own_home_is_right() -> None:
    job = changed("launcherPod", **security(runAsUser=1000, fsGroup=1000))
    place(job, "spec")["sshAuthMountPath"] = "/home/mpi/.ssh"
    assert said(job) == []


@pytest.mark.parametrize(
    ("secret", "folder", "user", "mode"),
    [
        ({}, "/root/.ssh", None, "0644"),
        ({"defaultMode": 0o440}, "/keys/.ssh/", 0, "0440"),
        ({"defaultMode": 0o400}, "/keys/.ssh", 0, None),
        ({"defaultMode": 0o644}, "/keys/.ssh", 1000, None),
        ({"items": [{"key": "k", "path": "id_ed25519", "mode": 0o640}], "defaultMode": 0o400}, "/keys/.ssh", None, "0640"),
        ({"items": [{"key": "k", "path": "known_hosts"}]}, "/keys/.ssh", None, None),
        ({}, "/etc/secret", None, None),
    ],
)  # fmt: skip
def test_a_private_key_that_others_can_read_is_reported(
    secret: Object, folder: str, user: int | None, mode: str | None
) -> None:
    job = changed("launcherPod", volumes=[{"name": "k", "secret": {"secretName": "s", **secret}}])
    place(job, "spec")["sshAuthMountPath"] = "/home/mpi/.ssh"
    place(job, "launcher").update(volumeMounts=mounts(("k", folder)), **(security(runAsUser=user) if user else {}))
    lines = [line for line in said(job) if "mode" in line]
    assert lines == [
        line for line in lines if mode and f"has mode {mode}: ssh ignores a key that others can read" in line
    ]
    assert bool(lines) == bool(mode)


GANG: list[tuple[Object, Object, str]] = [
    ({"schedulingPolicy": {"minAvailable": 4}}, {}, ""),
    ({"schedulingPolicy": {"minAvailable": 5}}, {}, "5 pods must fit at once, but the job has 4: a gang scheduler would start none"),
    ({"schedulingPolicy": {"minAvailable": 3}}, {"launcherCreationPolicy": "WaitForWorkersReady"}, ""),
    ({"schedulingPolicy": {"minAvailable": 4}}, {"launcherCreationPolicy": "WaitForWorkersReady"}, "a gang scheduler waits for 4 pods, but the launcher is created only when the 3 workers run"),
    ({"schedulingPolicy": {"queue": "a"}}, {"launcherCreationPolicy": "WaitForWorkersReady"}, "a gang scheduler waits for 4 pods, but the launcher is created only when the 3 workers run"),
    ({"ttlSecondsAfterFinished": 9}, {}, "deletes the launcher and its log 9 s after the end, and not the MPIJob"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "spec", "message"), GANG)
def test_policies_that_are_rarely_meant_are_reported(policy: Object, spec: Object, message: str) -> None:
    lines = said(changed("spec", runPolicy=policy, **spec))
    assert [line.partition(": ")[2] for line in lines] == [message] * bool(message)


@pytest.mark.parametrize(
    ("value", "found"),
    [("/x:$PATH", "$PATH"), ("${HOME}/y", "${HOME}"), ("$(PATH)", ""), ("pa$$WORD", ""), ("se$cret1", ""), ("a\n$B_C", "")],
)  # fmt: skip
def test_variables_of_a_shell_in_env_are_reported(value: str, found: str) -> None:
    lines = said(changed("worker", **env({"name": "A", "value": value})))
    assert lines == [f"warning worker.env[0].value: A contains {found}, which is not expanded"] * bool(found)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"resourceVersion": "77", "uid": "a"}, ["warning metadata.resourceVersion: was copied from an object on a cluster: kubectl apply fails if the object exists"]),
        ({"uid": "a-b", "generation": 2}, ["warning metadata.uid: was copied from an object on a cluster: kubectl apply fails if the object exists"]),
        ({"creationTimestamp": "2026-01-01T00:00:00Z"}, ["warning metadata.creationTimestamp: was copied from an object on a cluster"]),
        ({"creationTimestamp": None, "generation": 1}, ["warning metadata.generation: was copied from an object on a cluster"]),
        ({"creationTimestamp": None}, []),
    ],
)  # fmt: skip
def test_a_dump_of_a_live_object_is_one_line(metadata: Object, told: list[str]) -> None:
    assert said(changed("job", metadata={"name": "j", **metadata})) == told


def test_the_status_of_a_dump_is_reported() -> None:
    assert said(changed("job", status={"conditions": []})) == ["warning status: was copied from an object on a cluster"]


@pytest.mark.parametrize(
    ("limits", "requests", "told"),
    [
        ({"memory": 64}, None, ["warning worker.resources.limits.memory: 64 is 64 bytes, since it has no unit"]),
        ({"memory": "512m"}, {"memory": "512m"}, ["warning worker.resources.limits.memory: 512m is 0.512 bytes: m is milli"]),
        (None, {"ephemeral-storage": 20}, ["warning worker.resources.requests.ephemeral-storage: 20 is 20 bytes, since it has no unit"]),
        ({"memory": 8 << 30, "cpu": 64}, {"cpu": "500m"}, []),
        ({"memory": "512Ki"}, None, []),
    ],
)  # fmt: skip
def test_bytes_without_a_unit_are_reported_once(
    limits: Object | None, requests: Object | None, told: list[str]
) -> None:
    assert said(changed("worker", **resources(limits, requests))) == told


def test_a_tiny_emptydir_is_reported() -> None:
    job = changed("pod", volumes=[{"name": "s", "emptyDir": {"medium": "Memory", "sizeLimit": 16}}])
    place(job, "worker")["volumeMounts"] = mounts(("s", "/dev/shm"))
    assert said(job) == ["warning pod.volumes[0].emptyDir.sizeLimit: 16 is 16 bytes, since it has no unit"]
