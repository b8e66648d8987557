# SPDX-License-Identifier: Apache-2.0
"""The cluster: the one that KUBECONFIG names, else this machine's, which scripts/cluster brings up and takes down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import ROOT
from kube import Kube, wait_for
from testcluster import simulated
from testcluster.build import find_programs
from testcluster.pins import OPERATORS
from testcluster.state import state_folder

CLUSTER = ROOT / "scripts" / "cluster"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--operators all runs jobs under each operator's controller, not only under the newest."""
    parser.addoption("--operators", choices=["newest", "all"], default="newest")


def pytest_configure() -> None:
    """Every process of pytest-xdist but the first brings up a cluster of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if worker != "gw0" and not os.environ.get("KUBECONFIG"):
        os.environ["MPIKIT_CLUSTER"] = f"{state_folder()}-{worker}"


def _cluster(*words: str) -> str:
    done = subprocess.run([str(CLUSTER), *words], text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        pytest.exit(f"scripts/cluster {' '.join(words)} failed, see its lines", returncode=1)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """A cluster with the MPI Operator."""
    kubectl = shutil.which("kubectl")
    given = os.environ.get("KUBECONFIG")
    if given:
        assert kubectl, "KUBECONFIG is set, but there is no kubectl"
        yield Kube(kubectl, given)
        return
    was_running = subprocess.run([str(CLUSTER), "status"], capture_output=True).returncode == 0
    _cluster("up", "--site", "voyager", "--user", "ada")
    try:
        yield Kube(kubectl or _built_kubectl(), _cluster("kubeconfig"))
    finally:
        if not was_running:
            _cluster("down")


def _built_kubectl() -> str:
    return str(find_programs(OPERATORS[0])["kubectl"])


@pytest.fixture(scope="session")
def real_node_values(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words for generate.py that fit jobs to the real node, without restarts. With KUBECONFIG: MPIKIT_TEST_VALUES."""
    once = tmp_path_factory.mktemp("values") / "once.yaml"
    once.write_text("restarts: {max: 0}\n")
    given = os.environ.get("MPIKIT_TEST_VALUES")
    if os.environ.get("KUBECONFIG"):
        return [*(["-f", given] if given else []), "-f", str(once)]
    return ["-f", _cluster("values"), "-f", str(once)]


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace for one test, gone afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kube("create", "namespace", name)
    yield from _until_deleted(kube, name)


@pytest.fixture(scope="session")
def simulated_nodes(kube: Kube) -> list[str]:
    """Names of the simulated nodes; a test that needs them is skipped on a cluster without any."""
    names = [node["metadata"]["name"] for node in kube.all("default", "nodes", "type=kwok")]
    if not names:
        pytest.skip("this cluster has no simulated nodes (kwok)")
    return names


@pytest.fixture
def simulated_namespace(kube: Kube, simulated_nodes: list[str]) -> Iterator[str]:
    """A namespace for one test whose pods go to simulated nodes."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kube.create(simulated.namespace(name))
    yield from _until_deleted(kube, name)


def _until_deleted(kube: Kube, name: str) -> Iterator[str]:
    wait_for(
        f"the service account of {name}",
        lambda: kube.run("-n", name, "get", "serviceaccount", "default").code == 0,
        30,
    )
    yield name
    kube("-n", name, "delete", "mpijobs", "--all", "--wait=false")
    kube("delete", "namespace", name, "--wait=false")
    wait_for(f"the pods of {name} to go", lambda: not kube.all(name, "pods"), 90)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits as an ImageFolder on this machine."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "digits.py"), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder that a job's pods write to."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder
