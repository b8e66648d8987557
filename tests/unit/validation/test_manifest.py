# SPDX-License-Identifier: Apache-2.0
"""The operator's own rules, told before the operator can stay silent about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mpikit.errors import ValuesError
from mpikit.render.renderer import Rendered
from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import Target, check_manifest
from tests.e2e.mutations import mutated

Change = Callable[[dict[str, Any]], object]


def changed(rendered: Rendered, change: Change) -> list[str]:
    job = yaml.safe_load(rendered.manifests["mpijob.yaml"])
    change(job)
    text = rendered.manifests["configmap.yaml"] + "---\n" + yaml.safe_dump(job, sort_keys=False)
    return [
        f"{fault.severity} {fault.key}: {fault.message}" for fault in check_manifest(read_manifest(text, "job.yaml"))
    ]


def replica(job: dict[str, Any], role: str) -> dict[str, Any]:
    return job["spec"]["mpiReplicaSpecs"][role]  # type: ignore[no-any-return]  # parsed YAML


def resources(job: dict[str, Any]) -> dict[str, Any]:
    return replica(job, "Worker")["template"]["spec"]["containers"][0]["resources"]  # type: ignore[no-any-return]


def test_what_we_render_has_no_fault(render_job: Callable[..., Rendered]) -> None:
    for nodes in (1, 2, 32):
        assert (
            check_manifest(
                read_manifest(render_job(f"nodes={nodes}", "train.gradient_accumulation_steps=1").manifest, "job.yaml")
            )
            == []
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: job["spec"].update(slotsPerWorkers=8), "fault spec.slotsPerWorkers: no such field"),
        (lambda job: job["spec"]["runPolicy"].update(cleanPodPolicy="Always"), "fault spec.runPolicy.cleanPodPolicy"),
        (lambda job: job["spec"]["runPolicy"].update(managedBy="me"), "fault spec.runPolicy.managedBy"),
        (lambda job: job["spec"].update(mpiImplementation="Foo"), "fault spec.mpiImplementation"),
        (lambda job: job["spec"].update(launcherCreationPolicy="Foo"), "warning spec.launcherCreationPolicy"),
        (lambda job: job["spec"]["runPolicy"].update(backoffLimit=-1), "fault spec.runPolicy.backoffLimit"),
        (lambda job: job["spec"].update(slotsPerWorker=-1), "fault spec.slotsPerWorker: -1"),
        (lambda job: job["spec"].update(slotsPerWorker=4), "fault spec.mpiReplicaSpecs.Worker.replicas: mpirun -np 16"),
        (lambda job: job["spec"].update(slotsPerWorker=4), "warning spec.slotsPerWorker: 4 slots, but 8"),
        (lambda job: replica(job, "Launcher").update(replicas=2), "fault spec.mpiReplicaSpecs.Launcher.replicas"),
        (lambda job: replica(job, "Worker").update(replicas=0), "fault spec.mpiReplicaSpecs.Worker.replicas: 0"),
        (lambda job: replica(job, "Worker").pop("replicas"), "at least one worker is needed"),
        (lambda job: replica(job, "Worker").update(restartPolicy="Always"), "restartPolicy: 'Always' is refused"),
        (lambda job: job["spec"]["mpiReplicaSpecs"].pop("Launcher"), "fault spec.mpiReplicaSpecs.Launcher: is missing"),
        (lambda job: replica(job, "Worker")["template"]["spec"].update(containers=[]), "containers: is empty"),
        (lambda job: job["metadata"].update(name="9bad"), "fault metadata.name"),
        (lambda job: job["metadata"].update(name="a.b"), "fault metadata.name"),
        (lambda job: job["metadata"].update(name="a" * 55), "fault metadata.name"),
        (lambda job: job["metadata"].update(name=True), "fault metadata.name: is true, not a text in quotes"),
        (lambda job: job.update(apiVersion="kubeflow.org/v1"), "fault apiVersion"),
        (lambda job: resources(job)["requests"].update({"habana.ai/gaudi": 4}), "must be equal"),
        (lambda job: resources(job).update(limits=["a"]), "has no limit"),
        (lambda job: resources(job)["limits"].pop("hugepages-2Mi"), "has no limit"),
    ],
)
def test_a_broken_manifest_is_told_by_its_key(render_job: Callable[..., Rendered], change: Change, said: str) -> None:
    found = changed(render_job("nodes=2"), change)
    assert any(said in fault for fault in found), found


def test_a_name_of_54_characters_is_the_longest(render_job: Callable[..., Rendered]) -> None:
    assert changed(render_job("nodes=2"), lambda job: job["metadata"].update(name="a" * 54)) == []


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"generateName": "nccl-"}, ["warning metadata.generateName: kubectl apply does not take generateName"]),
        ({"generateName": "9-"}, ["fault metadata.generateName: '9-xxxxx' is not"]),
        ({"name": "probe-"}, ["fault metadata.name: 'probe-' is not a DNS-1035 label"]),
        ({"name": "a-b.c"}, ["fault metadata.name: 'a-b.c' is not a DNS-1035 label"]),
        ({}, ["fault metadata.name: is missing"]),
    ],
)
def test_a_name_is_one_that_the_server_takes(
    render_job: Callable[..., Rendered], metadata: dict[str, str], said: list[str]
) -> None:
    found = changed(render_job("nodes=2"), lambda job: job.update(metadata=metadata))
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found


def test_a_stream_without_a_job_says_so() -> None:
    assert "contains no MPIJob" in str(check_manifest(read_manifest("kind: Pod\n", "pod.yaml"))[0])


def test_a_text_that_is_no_yaml_is_told_with_its_line() -> None:
    assert str(check_manifest(read_manifest("a: [\n", "x.yaml"))[0]).startswith("x.yaml:2:1: not YAML")


def pod(job: dict[str, Any], role: str = "Worker") -> dict[str, Any]:
    return replica(job, role)["template"]["spec"]  # type: ignore[no-any-return]  # parsed YAML


def container(job: dict[str, Any], role: str = "Worker") -> dict[str, Any]:
    return pod(job, role)["containers"][0]  # type: ignore[no-any-return]  # parsed YAML


def secret_key(**reference: str) -> dict[str, Any]:
    return {"name": "A", "valueFrom": {"secretKeyRef": reference}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: job["spec"].update(slotsPerWorker="8"), "spec.slotsPerWorker: is '8', not a whole number"),
        (lambda job: job["spec"]["runPolicy"].update(suspend="yes"), "is 'yes', not true or false"),
        (lambda job: container(job).update(imagePullpolicy="Never"), "containers[0].imagePullpolicy: no such field"),
        (lambda job: container(job).pop("image"), "containers[0].image: is missing"),
        (lambda job: container(job).update(name="Worker_1"), "containers[0].name: 'Worker_1' is not a valid DNS label"),
        (
            lambda job: container(job).update(env=[{"name": "A=B", "value": "c"}]),
            "env[0].name: 'A=B' is not a valid variable name",
        ),
        (
            lambda job: container(job).update(ports=[{"containerPort": 0}]),
            "ports[0].containerPort: 0 is not a valid port",
        ),
        (lambda job: container(job).update(livenessProbe={}), "livenessProbe: has no handler"),
        (lambda job: container(job)["volumeMounts"].append({"name": "v", "mountPath": "/v"}), "no volume 'v'"),
        (lambda job: container(job)["volumeMounts"].append({"name": "kit", "mountPath": "/kit"}), "/kit is mounted"),
        (lambda job: container(job)["volumeMounts"].append({"name": "kit", "mountPath": "/root/.ssh"}), "operator mou"),
        (lambda job: pod(job)["volumes"].append({"name": "ssh-auth", "emptyDir": {}}), "'ssh-auth' is a volume that"),
        (lambda job: pod(job)["volumes"].append({"name": "kit", "emptyDir": {}}), "kit is used twice"),
        (
            lambda job: pod(job)["volumes"].append({"name": "v", "hostPath": {"path": "/a", "type": "Dir"}}),
            "'Dir' is not",
        ),
        (
            lambda job: pod(job).update(tolerations=[{"operator": "Exists", "value": "a"}]),
            "must be empty with operator",
        ),
        (
            lambda job: pod(job).update(restartPolicy="Always"),
            "warning spec.mpiReplicaSpecs.Worker.template.spec.restart",
        ),
        (lambda job: resources(job)["limits"].update(cpu="many"), "limits.cpu: 'many' is not a valid quantity"),
        (lambda job: resources(job)["limits"].update(gpu=1), "limits.gpu: is not a resource of a container"),
        (lambda job: resources(job)["requests"].update(cpu="1000"), "request 1000 is over its limit"),
        (lambda job: resources(job)["limits"].update({"hugepages-2Mi": "3Mi"}), "not a multiple of the page"),
        (
            lambda job: replica(job, "Worker")["template"]["metadata"]["labels"].update({"a": "b c"}),
            "not a valid label value",
        ),
        (lambda job: container(job, "Launcher").update(resources={"limits": {"habana.ai/gaudi": 1}}), "warning"),
        (lambda job: container(job).update(env=[secret_key(key="k")]), "secretKeyRef.name: is empty"),
        (
            lambda job: container(job).update(env=[secret_key(name="S", key="k")]),
            "name: 'S' is not a valid object name",
        ),
        (
            lambda job: container(job).update(env=[secret_key(name="s", key="a b")]),
            "key: 'a b' is not a valid ConfigMap",
        ),
        (
            lambda job: container(job).update(envFrom=[{"secretRef": {"name": " "}}]),
            "secretRef.name: ' ' is not a valid object name",
        ),
        (lambda job: container(job).update(envFrom=[{"secretRef": {"name": "s"}, "prefix": "A="}]), "prefix: 'A='"),
        (lambda job: job["spec"]["runPolicy"].update(schedulingPolicy={"minResources": {"cpu": 1.5}}), "is 1.5, not"),
        (
            lambda job: job["spec"]["runPolicy"].update(schedulingPolicy={"minResources": {"cpu": "x"}}),
            "not a valid quantity",
        ),
        (lambda job: pod(job).update(nodeSelector={"a b": "c"}), "nodeSelector.a b: 'a b' is not a valid label key"),
    ],
)
def test_what_the_api_server_refuses_is_told_by_its_key(
    render_job: Callable[..., Rendered], change: Change, said: str
) -> None:
    found = changed(render_job("nodes=2"), change)
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_no_mutant_of_a_manifest_breaks_the_check_itself(render_job: Callable[..., Rendered], first: int) -> None:
    job = yaml.safe_load(render_job("nodes=2").manifests["mpijob.yaml"])
    verdicts = {
        seed: check_manifest(read_manifest(json.dumps(mutated(job, seed)[0]), "a.json"))
        for seed in range(first, first + 25)
    }
    assert any(verdicts.values())


def test_a_misspelt_field_of_a_pod_is_told_with_the_nearest() -> None:
    text = "kind: MPIJob\nspec: {mpiReplicaSpecs: {Worker: {template: {spec: {hostIPc: true}}}}}\n"
    (fault,) = [one for one in check_manifest(read_manifest(text, "a.yaml")) if one.key.endswith("hostIPc")]
    assert fault.fix == "did you mean spec.mpiReplicaSpecs.Worker.template.spec.hostIPC?"
    assert fault.where == "a.yaml:2:53"


@pytest.mark.parametrize(
    ("operator", "said"), [("0.3", ["needs MPI Operator 0.5, not 0.3"]), ("0.5", []), ("0.8.2", [])]
)
def test_a_field_that_the_operator_does_not_have_yet_is_told(
    render_job: Callable[..., Rendered], operator: str, said: list[str]
) -> None:
    found = check_manifest(read_manifest(render_job("nodes=2").manifest, "job.yaml"), Target(operator=operator))
    assert [fault.message for fault in found] == said


def test_an_unknown_version_of_kubernetes_is_told(render_job: Callable[..., Rendered]) -> None:
    with pytest.raises(ValuesError, match=r"known: 1\.25 to"):
        check_manifest(read_manifest(render_job("nodes=2").manifest, "job.yaml"), Target(kubernetes="1.99"))


def test_pod_security_is_told_by_the_field_of_a_manifest(render_job: Callable[..., Rendered]) -> None:
    found = check_manifest(read_manifest(render_job("nodes=2").manifest, "job.yaml"), Target(pod_security="baseline"))
    told = {fault.key.split("template.spec.")[1]: fault.message for fault in found if ".Worker." in fault.key}
    assert told["hostIPC"] == 'violates PodSecurity "baseline": host namespaces (hostIPC=true)'
    assert "volumes[2].hostPath" in told


@pytest.mark.parametrize(
    ("labels", "pod", "warned"),
    [
        ({"istio-injection": "enabled"}, {}, True),
        ({"istio.io/rev": "stable"}, {}, True),
        ({"istio-injection": "enabled"}, {"annotations": {"sidecar.istio.io/inject": "false"}}, False),
        ({}, {"annotations": {"linkerd.io/inject": "enabled"}}, True),
        ({}, {}, False),
    ],
)
def test_a_sidecar_of_a_mesh_is_a_warning(labels: dict[str, str], pod: dict[str, Any], warned: bool) -> None:
    template = {"metadata": pod, "spec": {"containers": [{"name": "m", "image": "i"}]}}
    job = {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": {"name": "job", "namespace": "lab"},
        "spec": {
            "mpiReplicaSpecs": {"Launcher": {"template": template}, "Worker": {"replicas": 1, "template": template}}
        },
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab", "labels": labels}}
    text = "\n---\n".join(map(json.dumps, (space, job)))
    found = check_manifest(read_manifest(text, "job.yaml"))
    assert [one.severity for one in found if "sidecar" in one.message] == ["warning"] * warned
