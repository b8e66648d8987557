# SPDX-License-Identifier: Apache-2.0
"""Pod Security: jobs that really run in namespaces which enforce a level, judged by admission, operator and kubelet."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from jobs import RunningJob, json_lines, settings, submit
from kube import Kube, Object

LEVELS = ("baseline", "restricted")
PYTHON = "/pods-python"


@pytest.fixture
def enforced(kube: Kube) -> Iterator[Callable[[str], str]]:
    """A namespace in which admission enforces a level, gone afterwards."""
    names: list[str] = []

    def make(level: str) -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        label = f"pod-security.kubernetes.io/enforce={level}"
        kube("create", "namespace", name)
        kube("label", "namespace", name, label)
        names.append(name)
        return name

    yield make
    for name in names:
        kube("delete", "namespace", name, "--wait=false")
        kube("delete", "pv", "-l", f"test={name}", "--wait=false")


def claim(namespace: str, name: str, folder: Path) -> tuple[Object, Object]:
    """A claim and the volume bound to it, which is a folder of the real node."""
    spec: Object = {"accessModes": ["ReadWriteMany"], "storageClassName": "manual"}
    size, of = {"storage": "1Gi"}, {"name": name, "namespace": namespace}
    volume = spec | {"capacity": size, "hostPath": {"path": str(folder)}, "claimRef": of}
    metadata = {"name": f"{namespace}-{name}", "labels": {"test": namespace}}
    return (
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": of}
        | {"spec": spec | {"resources": {"requests": size}, "volumeName": metadata["name"]}},
    )


def python_of_the_node(values: list[str]) -> Path | None:
    """The folder with torch that the real node's own values mount as a hostPath; a claim stands for it here."""
    if os.environ.get("KUBECONFIG"):
        return None
    return Path(yaml.safe_load(Path(values[1]).read_text())["python"]).parent.parent


@pytest.mark.parametrize("level", LEVELS)
def test_a_job_runs_to_the_end_where_the_level_of_its_values_is_enforced(
    kube: Kube, enforced: Callable[[str], str], real_node_values: list[str], digits: Path, output: Path, level: str
) -> None:
    namespace, words = enforced(level), settings(user="ada", train__name="images", train__dataset="imagefolder")
    words += settings(dataset='{"pvc": "datasets"}', output='{"pvc": "results"}')
    output.chmod(0o777)  # the user of runAsUser is not the owner
    folders = {"datasets": digits, "results": output}
    if python := python_of_the_node(real_node_values):
        folders["python"] = python
        volume = '[{"name": "python", "persistentVolumeClaim": {"claimName": "python"}}]'
        mount = f'[{{"name": "python", "mountPath": "{PYTHON}", "readOnly": true}}]'
        words += settings(python=f"{PYTHON}/bin/python", worker__volumes=volume, worker__volumeMounts=mount)
        words += settings(resources__requests='{"cpu": "200m", "memory": "512Mi"}')
    for name, folder in folders.items():
        kube.create(*claim(namespace, name, folder))
    job = submit(kube, namespace, ["-f", f"values/{level}.yaml", "--nodes", "2", *words])
    assert job.wait_end(400) == "Succeeded", job.story()
    check_run(job, output / "images", level)


def check_run(job: RunningJob, run: Path, level: str) -> None:
    """Exit code 0, the trainer's own last step, and no root where none is allowed."""
    assert job.exit_code() == 0
    assert json_lines(run / "metrics.jsonl")[-1]["step"] == 100
    assert run.stat().st_uid == (1000 if level == "restricted" else 0)
