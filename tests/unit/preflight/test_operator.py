# SPDX-License-Identifier: Apache-2.0
"""`doctor` recommends a release of the MPI Operator without known faults, by what it can read of the one in use."""

from __future__ import annotations

from typing import Any

import pytest

from mpikit.preflight.operator import _launcher_jobs, _release, release_check


def deployment(image: str) -> dict[str, Any]:
    sidecar = {"image": "registry.example/proxy:0.1.0"}
    return {"spec": {"template": {"spec": {"containers": [sidecar, {"image": image}]}}}}


@pytest.mark.parametrize(
    ("image", "release"),
    [
        ("mpioperator/mpi-operator:0.8.0", "0.8.0"),
        ("registry.example:5000/mirror/mpi-operator:v0.7.0", "0.7.0"),
        ("mpioperator/mpi-operator:0.8.2@sha256:" + "a" * 64, "0.8.2"),
        ("mpioperator/mpi-operator:master", ""),
        ("mpioperator/mpi-operator:0.8.0.1", ""),
        ("mpioperator/mpi-operator", ""),
    ],
)
def test_the_release_is_read_from_the_tag_of_the_image(image: str, release: str) -> None:
    assert _release([deployment(image)]) == release


def launcher(policy: str | None) -> dict[str, Any]:
    return {"spec": {"podReplacementPolicy": policy} if policy else {}}


@pytest.mark.parametrize(
    ("release", "policies", "told"),
    [
        ("0.8.0", ["Failed"], "MPI Operator 0.8.0 is older than 0.8.2"),
        ("0.6.0", [], "MPI Operator 0.6.0 is older than 0.8.2"),
        ("0.8.2", ["TerminatingOrFailed"], ""),  # of an earlier operator
        ("0.9.0", [], ""),
        ("", [], ""),
        ("", ["Failed", "TerminatingOrFailed"], "the MPI Operator is older than 0.8.2"),
        ("", ["TerminatingOrFailed", "Failed"], ""),  # the newest counts
        ("", [None], ""),  # a server that does not know the field
    ],
)
def test_an_operator_with_known_faults_causes_a_warning(release: str, policies: list[str | None], told: str) -> None:
    found = list(release_check(release, [launcher(policy) for policy in policies]))
    assert [(one.severity, one.message.partition(":")[0]) for one in found] == ([("warning", told)] if told else [])
    assert all("MPI Operator 0.8.2: deploy/v2beta1/mpi-operator.yaml of" in one.fix for one in found)


def test_only_jobs_of_an_mpijob_of_this_version_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def job(name: str, created: str, **owner: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "creationTimestamp": created, "ownerReferences": [owner]}}

    mine = {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1"}
    items = [job("b", "2026-02", **mine), job("a", "2026-01", **mine), job("c", "2026-03", kind="CronJob")]
    items.append(job("d", "2026-04", kind="MPIJob", apiVersion="kubeflow.org/v1"))
    monkeypatch.setattr("mpikit.preflight.operator.find_all", lambda *_: iter(items))
    assert [one["metadata"]["name"] for one in _launcher_jobs(None, "n")] == ["a", "b"]  # type: ignore[arg-type]  # unused
