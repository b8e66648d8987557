"""The operator's own rules, told before the operator can stay silent about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mpikit.manifest import check_manifest
from mpikit.render import Rendered

Change = Callable[[dict[str, Any]], object]


def changed(rendered: Rendered, change: Change) -> list[str]:
    job = yaml.safe_load(rendered.manifests["mpijob.yaml"])
    change(job)
    text = rendered.manifests["configmap.yaml"] + "---\n" + yaml.safe_dump(job, sort_keys=False)
    return [f"{fault.severity} {fault.key}: {fault.message}" for fault in check_manifest(text, "job.yaml")]


def replica(job: dict[str, Any], role: str) -> dict[str, Any]:
    return job["spec"]["mpiReplicaSpecs"][role]  # type: ignore[no-any-return]  # parsed YAML


def resources(job: dict[str, Any]) -> dict[str, Any]:
    return replica(job, "Worker")["template"]["spec"]["containers"][0]["resources"]  # type: ignore[no-any-return]


def test_what_we_render_has_no_fault(render_job: Callable[..., Rendered]) -> None:
    for nodes in (1, 2, 32):
        assert (
            check_manifest(render_job(f"nodes={nodes}", "train.gradient_accumulation_steps=1").manifest, "job.yaml")
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
        (lambda job: job["metadata"].update(name=True), "fault metadata.name: True is no text"),
        (lambda job: job.update(apiVersion="kubeflow.org/v1"), "fault apiVersion"),
        (lambda job: resources(job)["requests"].update({"habana.ai/gaudi": 4}), "must be equal"),
        (lambda job: resources(job)["limits"].pop("hugepages-2Mi"), "has no limit"),
    ],
)
def test_a_broken_manifest_is_told_by_its_key(render_job: Callable[..., Rendered], change: Change, said: str) -> None:
    found = changed(render_job("nodes=2"), change)
    assert any(said in fault for fault in found), found


def test_a_name_of_54_characters_is_the_longest(render_job: Callable[..., Rendered]) -> None:
    assert changed(render_job("nodes=2"), lambda job: job["metadata"].update(name="a" * 54)) == []


def test_a_stream_without_a_job_says_so() -> None:
    assert "holds no MPIJob" in str(check_manifest("kind: Pod\n", "pod.yaml")[0])


def test_a_text_that_is_no_yaml_is_told_with_its_line() -> None:
    assert str(check_manifest("a: [\n", "x.yaml")[0]).startswith("x.yaml:2:1: not YAML")
