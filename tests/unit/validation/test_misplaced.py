# SPDX-License-Identifier: Apache-2.0
"""Fields at a wrong level and those of older versions: the fix is the place where they belong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import check_manifest

WORKER = "spec.mpiReplicaSpecs.Worker.template.spec"


def fixes(place: tuple[Any, ...], version: str = "kubeflow.org/v2beta1") -> dict[str, str]:
    """The fixes by key for a job with a field at `place`."""
    pods = {
        role: {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}
        for role in ("Launcher", "Worker")
    }
    job: dict[str, Any] = {"apiVersion": version, "kind": "MPIJob", "metadata": {"name": "a"}}
    job["spec"] = {"mpiReplicaSpecs": pods}
    *path, name = place
    part: Any = job
    for step in path:
        part = part[step] if isinstance(part, list) else part.setdefault(step, {})
    part[name] = {}
    return {one.key: one.fix for one in check_manifest(read_manifest(json.dumps(job), "m"))}


@pytest.mark.parametrize(
    ("place", "key", "target"),
    [
        (("spec", "ttlSecondsAfterFinished"), "spec.ttlSecondsAfterFinished", "spec.runPolicy.ttlSecondsAfterFinished"),
        (("spec", "minAvailable"), "spec.minAvailable", "spec.runPolicy.schedulingPolicy.minAvailable"),
        (("spec", "runPolicy", "slotsPerWorker"), "spec.runPolicy.slotsPerWorker", "spec.slotsPerWorker"),
        (("slotsPerWorker",), "slotsPerWorker", "spec.slotsPerWorker"),
        (("spec", "tolerations"), "spec.tolerations", f"{WORKER}.tolerations"),
        (("spec", "mpiReplicaSpecs", "Worker", "hostIPC"), "spec.mpiReplicaSpecs.Worker.hostIPC", f"{WORKER}.hostIPC"),
        (
            ("spec", "mpiReplicaSpecs", "Launcher", "template", "spec", "resizePolicy"),
            "spec.mpiReplicaSpecs.Launcher.template.spec.resizePolicy",
            "spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].resizePolicy",
        ),
        (("spec", "backofLimit"), "spec.backofLimit", "spec.runPolicy.backoffLimit"),
    ],
)
def test_a_misplaced_field_has_its_place_as_the_fix(place: tuple[str, ...], key: str, target: str) -> None:
    assert fixes(place)[key] == f"move it to {target}"


def test_a_misspelt_field_keeps_its_level() -> None:
    assert fixes(("spec", "slotPerWorker"))["spec.slotPerWorker"] == "did you mean spec.slotsPerWorker?"


@pytest.mark.parametrize("version", ["v1", "v1alpha1", "v1alpha2", "v1beta1"])
def test_an_older_version_names_what_its_migration_needs(version: str) -> None:
    found = fixes(("spec", "mainContainer"), f"kubeflow.org/{version}")
    assert found["apiVersion"].startswith("set kubeflow.org/v2beta1 and install sshd")
    assert "first container" in found["spec.mainContainer"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpusPerNode", "slotsPerWorker"),
        ("replicas", "spec.mpiReplicaSpecs.Worker.replicas"),
        ("mpiDistribution", "spec.mpiImplementation"),
        ("cleanPodPolicy", "spec.runPolicy.cleanPodPolicy"),
    ],
)
def test_a_field_of_an_older_version_has_its_new_place(name: str, said: str) -> None:
    assert said in fixes(("spec", name), "kubeflow.org/v1alpha2")[f"spec.{name}"]


def test_another_group_only_gets_the_version() -> None:
    assert fixes(("spec", "x"), "batch/v1")["apiVersion"] == "set kubeflow.org/v2beta1"
