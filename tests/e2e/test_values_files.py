# SPDX-License-Identifier: Apache-2.0
"""Every shipped values file against the API server, the operator and the scheduler, on simulated nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jobs import ROOT, RunningJob, generate, settings
from kube import Kube, Object, wait_for
from testcluster import simulated

PLACES = {"user": "ada", "dataset": "/data", "output": "/results"}
# values file: what must be set because it is the user's own
SHIPPED = {
    "default": {"user": "ada"},
    "voyager": {"user": "ada"},
    "voyager-mydir": {"user": "ada"},
    "gaudi2": {"user": "ada"},
    "gaudi3": {"user": "ada"},
    "nvidia": {"user": "ada"},
    "cpu": {"user": "ada"},
    "baseline": {"user": "ada"},
    "restricted": {"user": "ada"},
    "demo": PLACES,
}
SMALL = ("cpu", "baseline", "restricted", "demo")  # nothing asks that their workers part
GOLDEN = sorted((ROOT / "tests" / "contract" / "golden").glob("*.yaml"))


def words_for(values: str, namespace: str) -> list[str]:
    """Words for generate.py: this values file in this namespace, which has no service account of the user."""
    own = ["--set", "serviceAccountName=null"] if values in ("default", "voyager", "voyager-mydir") else []
    return ["-f", f"values/{values}.yaml", *settings(**SHIPPED[values]), *own, "--nodes", "2", "-n", namespace]


def objects(kube: Kube, manifest: str) -> list[Object]:
    """The objects of a manifest, as kubectl's own YAML reader sees them."""
    found = kube("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", text=manifest)
    members: list[Object] = []
    decoder, at = json.JSONDecoder(), 0
    while at < len(found.rstrip()):
        member, at = decoder.raw_decode(found, at)
        at += len(found[at:]) - len(found[at:].lstrip())
        members += member["items"] if member["kind"] == "List" else [member]
    return members


def claims(namespace: str) -> list[Object]:
    """The claims that the values files for clusters name, bound to volumes made for them."""
    members: list[Object] = []
    for name in ("datasets", "results"):
        spec: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": "manual"}
        size = {"storage": "1Gi"}
        volume = {"capacity": size, "hostPath": {"path": "/tmp"}, "claimRef": {"name": name, "namespace": namespace}}
        members += [
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-{name}"}}
            | {"spec": spec | volume},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace}}
            | {"spec": spec | {"resources": {"requests": size}}},
        ]
    return members


@pytest.fixture(scope="module")
def gpu_nodes(kube: Kube, simulated_nodes: list[str]) -> Any:
    """Two simulated nodes with 8 NVIDIA cards each."""
    capacity = {"cpu": "96", "memory": "515Gi", "ephemeral-storage": "6Ti", "nvidia.com/gpu": "8"}
    names = ["test-gpu-0", "test-gpu-1"]
    kube.create(*(simulated.node(name, "gpu", capacity) for name in names))
    yield names
    kube("delete", "node", *names)


@pytest.mark.parametrize("values", SHIPPED)
def test_the_api_server_accepts_a_values_file_strictly(kube: Kube, simulated_namespace: str, values: str) -> None:
    """Judged by the API server with the operator's CRD: an unknown field would be an error."""
    manifest = generate(*words_for(values, simulated_namespace))
    strict = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    accepted = kube(*strict, text=manifest)
    assert accepted.count("serverside-applied (server dry run)") == len(objects(kube, manifest))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_the_api_server_accepts_a_golden_manifest_strictly(kube: Kube, simulated_namespace: str, golden: Any) -> None:
    """Judged by the API server: each object of the file, in a namespace of ours."""
    members = objects(kube, golden.read_text())
    for member in members:
        member["metadata"]["namespace"] = simulated_namespace
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": members})
    accepted = kube("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
    assert accepted.count("serverside-applied (server dry run)") == len(members)


@pytest.mark.parametrize("values", SHIPPED)
def test_pods_of_a_values_file_run_one_worker_a_node_as_the_manifest_says(
    kube: Kube, simulated_namespace: str, gpu_nodes: list[str], values: str
) -> None:
    """Judged by the operator (pods, Running), the scheduler (one worker a node) and the API server (their fields)."""
    kube.create(*claims(simulated_namespace))
    manifest = generate(*words_for(values, simulated_namespace))
    kube("apply", "-f", "-", text=manifest)
    (asked,) = [member for member in objects(kube, manifest) if member["kind"] == "MPIJob"]
    job = RunningJob(kube, simulated_namespace, asked["metadata"]["name"])
    job.wait_running()
    for role in ("Worker", "Launcher"):
        template = asked["spec"]["mpiReplicaSpecs"][role]["template"]
        written = as_the_server_writes_it(kube, simulated_namespace, template)
        for pod in job.pods(role.lower()):
            check_pod(pod, written)
    workers = [pod["spec"]["nodeName"] for pod in job.pods("worker")]
    assert len(workers) == 2
    if values not in SMALL:
        assert len(set(workers)) == 2
    kube("delete", "pv", *(f"{simulated_namespace}-{name}" for name in ("datasets", "results")), "--wait=false")


def as_the_server_writes_it(kube: Kube, namespace: str, template: Object) -> Object:
    """A pod of this template as a dry run of the API server returns it: 65536Mi is 64Gi there."""
    metadata = template["metadata"] | {"name": "dry-run", "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    written: Object = json.loads(kube("create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(pod)))
    for part in (written["spec"], written["spec"]["containers"][0]):  # without what it added
        key = "volumes" if "volumes" in part else "volumeMounts"
        part[key] = [item for item in part[key] if not item["name"].startswith("kube-api-access")]
    return written


def check_pod(pod: Object, template: Object) -> None:
    """A pod carries what its template asks for; the operator and the API server only add."""
    asked, got = template["spec"], pod["spec"]
    assert template["metadata"]["labels"].items() <= pod["metadata"]["labels"].items()
    assert got["containers"][0]["resources"] == asked["containers"][0]["resources"]
    assert got["containers"][0]["command"] == asked["containers"][0]["command"]
    mounts = [mount["mountPath"] for mount in got["containers"][0]["volumeMounts"]]
    assert {mount["mountPath"] for mount in asked["containers"][0]["volumeMounts"]} <= set(mounts)
    volumes = {volume["name"]: volume for volume in got["volumes"]}
    for volume in asked["volumes"]:
        kind = next(key for key in volume if key != "name")
        assert volume[kind].items() <= volumes[volume["name"]][kind].items()
    assert asked.get("nodeSelector", {}).items() <= got.get("nodeSelector", {}).items()
    assert got.get("hostIPC") == asked.get("hostIPC")
    assert got["terminationGracePeriodSeconds"] == asked["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("values", SHIPPED)
def test_the_operator_finds_no_fault_in_a_values_file(kube: Kube, simulated_namespace: str, values: str) -> None:
    """Judged by the MPI Operator, whose validation no dry run sees: it would send a ValidationError event."""
    kube("apply", "-f", "-", text=generate(*words_for(values, simulated_namespace)))
    (job,) = kube.all(simulated_namespace, "mpijobs")
    one = RunningJob(kube, simulated_namespace, job["metadata"]["name"])
    wait_for("the operator to take the job", lambda: one.holds("Created"), 30)
    assert not [event for event in kube.events(simulated_namespace) if event.startswith("ValidationError")]
