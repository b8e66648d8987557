# SPDX-License-Identifier: Apache-2.0
"""Advice on hostPath types: never one with which the kubelet would reject the pod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import check_manifest


def advice(path: str, kind: str = "") -> list[str]:
    """What check says of a worker's hostPath."""
    mount = {"name": "v", "mountPath": "/v"}
    spec: dict[str, Any] = {"containers": [{"name": "a", "image": "i", "volumeMounts": [mount]}]}
    spec["volumes"] = [{"name": "v", "hostPath": {"path": path, **({"type": kind} if kind else {})}}]
    bare = {"containers": [{"name": "a", "image": "i"}]}
    pods = {role: {"replicas": 1, "template": {"spec": pod}} for role, pod in (("Launcher", bare), ("Worker", spec))}
    job = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": {"name": "a"}}
    job |= {"spec": {"mpiReplicaSpecs": pods}}
    return [one.fix for one in check_manifest(read_manifest(json.dumps(job), "m")) if "hostPath" in one.key]


FOLDERS = "/dev /dev/shm /dev/infiniband /dev/infiniband/ /dev/dri /dev/vfio /dev/hugepages /dev/nvidia-caps /dev/site0"


@pytest.mark.parametrize("path", [*FOLDERS.split(), "/dev/dri/by-path", "/sys", "/proc/driver/nvidia"])
def test_a_folder_of_the_kernel_gets_no_advice(path: str) -> None:
    assert advice(path) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/dev/gdrdrv", "CharDevice"),
        ("/dev/knem", "CharDevice"),
        ("/dev/nvidia3", "CharDevice"),
        ("/dev/infiniband/uverbs0", "CharDevice"),
        ("/dev/infiniband/rdma_cm", "CharDevice"),
        ("/dev/dri/renderD128", "CharDevice"),
        ("/dev/nvme0n1p2", "BlockDevice"),
        ("/run/containerd/containerd.sock", "Socket"),
    ],
)
def test_a_device_or_a_socket_gets_its_own_type(path: str, kind: str) -> None:
    assert advice(path) == [f"type: {kind}"]
    assert advice(path, kind) == []
    assert advice(path, "Directory") == [f"type: {kind}"]


def test_a_path_that_can_be_a_file_gets_both() -> None:
    assert advice("/data/sets") == ["type: Directory, or DirectoryOrCreate for what is written"]
    (fix,) = advice("/etc/topology.xml")
    assert fix.endswith("or File for a file")
    assert advice("/etc/topology.xml", "File") == []
