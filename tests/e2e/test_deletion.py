# SPDX-License-Identifier: Apache-2.0
"""`delete` on a real API server, operator and garbage collector: what carries the same labels survives."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from jobs import ROOT, generate, settings
from kube import Kube, Object, wait_for

NAME = "bert"
LABELS = {"training.kubeflow.org/job-name": NAME, "training.kubeflow.org/job-role": "worker"}


def stranger(name: str, *owners: Object) -> Object:
    """A pod with the labels that PyTorchJob's operator gives to its pods, too."""
    container = {"name": "main", "image": "busybox:1", "command": ["sleep", "1d"]}
    metadata = {"name": name, "labels": LABELS, "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


@pytest.fixture
def crowded(kube: Kube, simulated_namespace: str) -> str:
    """A namespace with an MPIJob, and pods of its labels that other objects own, or none."""
    space = simulated_namespace
    words = ("-f", "values/cpu.yaml", *settings(user="ada", name=NAME), "-n", space)
    kube("-n", space, "create", "-f", "-", text=generate(*words))
    kube("-n", space, "create", "configmap", "owner")
    uid = kube.get(space, "configmap", "owner")["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    text = yaml.safe_dump_all([stranger("without-owner"), stranger("owned-by-another", owner)])
    kube("-n", space, "create", "-f", "-", text=text)
    wait_for("its worker pods", lambda: len(names(kube, space)) > 2, 60)
    return space


def names(kube: Kube, space: str) -> set[str]:
    """All pods with the MPIJob's label."""
    found = kube.all(space, "pods", f"training.kubeflow.org/job-name={NAME}")
    return {str(item["metadata"]["name"]) for item in found}


def run(kube: Kube, space: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A verb of generate.py for user ada, or for another that `words` name."""
    place = ("-n", space, "--kubeconfig", kube.kubeconfig, "--set", "user=ada")
    command = [sys.executable, str(ROOT / "generate.py"), "--no-user-file", words[0], *place, *words[1:]]
    return subprocess.run(command, text=True, capture_output=True, cwd=ROOT, timeout=180)


def test_delete_removes_the_pods_of_the_mpijob_and_no_others_of_its_labels(kube: Kube, crowded: str) -> None:
    strangers = {"owned-by-another", "without-owner"}
    assert names(kube, crowded) > strangers
    done = run(kube, crowded, "delete", NAME, "--timeout", "2m")
    assert done.returncode == 0, done.stderr
    assert names(kube, crowded) == strangers
    told = json.loads(run(kube, crowded, "status", NAME, "-o", "json").stdout)  # its events are still there
    assert told["verdict"] == "Deleted"
    assert json.loads(run(kube, crowded, "list", "-o", "json").stdout) == []


def test_delete_refuses_the_mpijob_of_another_user(kube: Kube, crowded: str) -> None:
    before = names(kube, crowded)
    done = run(kube, crowded, "delete", NAME, "--set", "user=bob")
    assert (done.returncode, names(kube, crowded)) == (2, before), done.stderr
