"""Older and current MPI Operators: the same manifests against each one's CRD."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import generate, settings
from kube import Kube, Object, wait_for
from testcluster.build import find_go
from testcluster.pins import version_of

MODULE = "github.com/kubeflow/mpi-operator"
OPERATORS = ("v0.6.0", "v0.7.0", "v0.8.0")
VALUES = ("default", "voyager", "gaudi2", "nvidia", "cpu")


def crd_of(kube: Kube, operator: str, group: str) -> Object:
    """The CRD in an operator's Go module, under a group of its own, so that it can stand beside the one in use."""
    found = subprocess.run(
        [find_go(), "mod", "download", "-json", f"{MODULE}@{operator}"], text=True, capture_output=True, check=True
    )
    manifest = Path(json.loads(found.stdout)["Dir"]) / "deploy" / "v2beta1" / "mpi-operator.yaml"
    words = ("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", str(manifest))
    text = kube(*words)
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        member, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        for one in member.get("items", [member]):
            if one["kind"] == "CustomResourceDefinition":
                crd: Object = one
    crd["spec"]["group"] = group
    crd["metadata"] = {"name": f"{crd['spec']['names']['plural']}.{group}"}
    crd.pop("status", None)
    return crd


@pytest.fixture(scope="module", params=OPERATORS)
def group(request: pytest.FixtureRequest, kube: Kube) -> Iterator[str]:
    """The API group under which this operator's CRD is served for the test."""
    operator = str(request.param)
    group = f"{operator.replace('.', '-')}.mpikit.test"
    crd = crd_of(kube, operator, group)
    kube("create", "-f", "-", text=json.dumps(crd))
    wait_for(f"{group} to be served", lambda: kube.run("get", f"mpijobs.{group}", "-A").code == 0, 20)
    yield group
    kube("delete", "crd", crd["metadata"]["name"])


@pytest.mark.parametrize("values", VALUES)
def test_this_operators_crd_accepts_a_values_file_strictly(kube: Kube, namespace: str, group: str, values: str) -> None:
    """Judged by the API server with the CRD out of that operator's own module: no field of ours is unknown to it."""
    words = ["-f", f"values/{values}.yaml", *settings(user="ada"), "--nodes", "2", "-n", namespace]
    manifest = generate(*words).replace("apiVersion: kubeflow.org/v2beta1", f"apiVersion: {group}/v2beta1")
    strict = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    assert "mpijob" in kube(*strict, text=manifest)
    bogus = manifest.replace("  slotsPerWorker:", "  bogusField: 1\n  slotsPerWorker:")
    assert ".spec.bogusField: field not declared in schema" in kube.run(*strict, text=bogus).err


def test_the_operator_that_runs_is_the_newest_of_them() -> None:
    """Judged by tests/cluster/build/main/go.mod."""
    assert version_of("main", MODULE) == OPERATORS[-1]
