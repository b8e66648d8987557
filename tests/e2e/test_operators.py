# SPDX-License-Identifier: Apache-2.0
"""Older and current MPI Operators: the same manifests against each one's CRD."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import ROOT, generate, settings, submit
from kube import Kube, Object, wait_for
from test_doctor import examined
from testcluster.build import find_go
from testcluster.pins import OPERATOR, OPERATORS, version_of

from mpikit.preflight.operator import release_check

CLUSTER = str(ROOT / "scripts" / "cluster")
VALUES = ("default", "voyager", "gaudi2", "nvidia", "cpu")


def crd_of(kube: Kube, operator: str, group: str) -> Object:
    """The CRD in an operator's Go module, under a group of its own, so that it can stand beside the one in use."""
    found = subprocess.run(
        [find_go(), "mod", "download", "-json", f"{OPERATOR}@v{operator}"], text=True, capture_output=True, check=True
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
    group = f"v{operator.replace('.', '-')}.mpikit.test"
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


@pytest.fixture(params=OPERATORS)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kube, list[str], str]]:
    """A cluster of its own under this operator's controller, and the values of its real node."""
    if request.config.getoption("--operators") != "all":
        pytest.skip("takes a cluster for each operator; scripts/test --cluster --operators all runs it")
    own = {**os.environ, "MPIKIT_CLUSTER": str(tmp_path / "cluster")}

    def call(*words: str) -> str:
        return subprocess.run([CLUSTER, *words], env=own, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    call("up", "--site", "voyager", "--user", "ada", "--operator", str(request.param))
    try:
        yield Kube(shutil.which("kubectl") or "kubectl", call("kubeconfig")), ["-f", call("values")], str(request.param)
    finally:
        call("down")


def test_this_operators_controller_runs_a_42_node_job_and_ends_a_real_one(older: tuple[Kube, list[str], str]) -> None:
    """Judged by that operator's controller: Running on simulated Voyager, Succeeded on the real node.

    `doctor` recommends the newest one, by the image's tag and by the launcher's Job alike.
    """
    kube, values, operator = older
    began = time.monotonic()
    large = submit(kube, "ada-restricted", ["--nodes", "42", *settings(user="ada", globalBatch=672)])
    large.wait_running()
    running = time.monotonic() - began
    real = submit(kube, "default", ["-f", "values/cpu.yaml", *values, "--nodes", "2", *settings(user="ada")])
    assert real.wait_end(120) == "Succeeded", real.story()
    wait_for("the workers to go", lambda: not real.pods("worker"), 60)
    told = [one.message for one in examined(kube.kubeconfig, "default") if one.key == "operator" and one.fix]
    old = f"MPI Operator {operator} is older than {OPERATORS[0]}"
    assert [message.partition(":")[0] for message in told] == ([] if operator == OPERATORS[0] else [old])
    jobs = kube.all("default", "jobs")
    assert bool(list(release_check("", jobs))) is bool(told), jobs
    print(f"42 nodes Running after {running:.1f} s; 2 real nodes over after {time.monotonic() - began - running:.1f} s")


def test_the_operator_that_runs_by_default_is_the_newest_of_them() -> None:
    """Judged by tests/e2e/build/main/go.mod."""
    assert version_of("main", OPERATOR) == f"v{OPERATORS[0]}"
