# SPDX-License-Identifier: Apache-2.0
"""From nothing to a job that starts: weights and data are made by Jobs in real pods, then a training job uses them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from jobs import ROOT, generate, json_lines, settings, steps_of, submit
from kube import Kube, Object, wait_for

sys.path.insert(0, str(ROOT))

JOB_SECONDS = 180
SERVER_PORT = 8000


def served_folder(folder: Path) -> Path:
    """A folder laid out as Google's bucket: real weights of ViT-Ti_16's shape, which nobody has trained."""
    from mpikit.config.pretrained import published_file
    from vit.model.transformer import create_model
    from vit.weights.load import save_npz

    file = folder / published_file("ViT-Ti_16", "augreg").path
    file.parent.mkdir(parents=True)
    save_npz(create_model("ViT-Ti_16", img_size=32, num_classes=10), file)
    return folder


@pytest.fixture
def mirror(kube: Kube, namespace: str, tmp_path: Path) -> str:
    """The address of a pod that serves such a folder."""
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mirror"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "server",
                    "image": "vit-cpu:1",
                    "command": ["python3", "-m", "http.server", str(SERVER_PORT), "--directory", "/bucket"],
                    "volumeMounts": [{"name": "bucket", "mountPath": "/bucket", "readOnly": True}],
                    "readinessProbe": {"tcpSocket": {"port": SERVER_PORT}, "periodSeconds": 1},
                }
            ],
            "volumes": [{"name": "bucket", "hostPath": {"path": str(served_folder(tmp_path / "bucket"))}}],
        },
    }
    kube("-n", namespace, "create", "-f", "-", text=json.dumps(pod))
    kube("-n", namespace, "wait", "--for=condition=Ready", "pod/mirror", "--timeout=60s")
    return f"http://{kube.get(namespace, 'pod', 'mirror')['status']['podIP']}:{SERVER_PORT}"


@pytest.fixture
def words(real_node_values: list[str], namespace: str, tmp_path: Path) -> list[str]:
    """Values of a job on the real node whose three folders are still to be made."""
    folders = {name: tmp_path / "site" / name for name in ("dataset", "pretrained", "output")}
    memory = settings(launcher__resources__limits__memory="2Gi")
    return ["-f", "values/cpu.yaml", *real_node_values, "-n", namespace, *settings(user="ada", **folders), *memory]


def ends(kube: Kube, namespace: str, manifest: str) -> tuple[str, str]:
    """Apply a Job; its condition at the end, and its pods' lines."""
    applied = kube("apply", "-f", "-", text=manifest)
    name = next(line.split()[0].partition("/")[2] for line in applied.splitlines() if line.startswith("job"))

    def ended() -> str:
        conditions = kube.get(namespace, "job", name).get("status", {}).get("conditions", ())
        return next((one["type"] for one in conditions if one["type"] in ("Complete", "Failed")), "")

    result = str(wait_for(f"the end of Job {name}", ended, JOB_SECONDS))
    log = kube.run("-n", namespace, "logs", "-l", f"job-name={name}", "--tail=-1").out
    return result, f"{log}\n{kube.events(namespace)}"


def test_jobs_make_weights_and_data_and_a_training_job_uses_them(
    kube: Kube, namespace: str, words: list[str], mirror: str, tmp_path: Path
) -> None:
    """Judged by the Job controller (Complete), the MPI Operator (Succeeded), and the trainer's files."""
    from tests.support.ilsvrc import tree_of, write_archives

    wanted = write_archives(tmp_path / "archives", num_train=12)
    weights = generate("weights", "ViT-Ti_16", "--variant", "augreg", "--mirror", mirror, "--job", *words)
    result, told = ends(kube, namespace, weights)
    assert result == "Complete", told
    assert "loaded into ViT-Ti_16" in told
    from_archives = ("--from", str(tmp_path / "archives"), "--allow-subset")
    result, told = ends(kube, namespace, generate("data", "imagenet1K", *from_archives, "--job", *words))
    assert result == "Complete", told
    assert tree_of(tmp_path / "site" / "dataset") == wanted

    recipe = {"name": "prepared", "dataset": "imagenet1K", "model_type": "ViT-Ti_16", "num_steps": 12, "eval_every": 12}
    flags = settings(**{f"train__{key}": value for key, value in recipe.items()}, train__train_batch_size=4)
    job = submit(kube, namespace, [*words, "--nodes", "2", *flags])
    assert job.wait_end(JOB_SECONDS) == "Succeeded", job.story()
    run = tmp_path / "site" / "output" / "prepared"
    assert steps_of(run, "complete") == [12]
    assert json_lines(run / "metrics.jsonl")[-1]["eval_images"] == 12
    assert "position embeddings" in job.log() or "the head starts at zero" in job.log()


def test_a_job_that_finds_a_fault_fails_with_its_one_line(
    kube: Kube, namespace: str, words: list[str], tmp_path: Path
) -> None:
    """Judged by the pod's exit code: 8, the archives."""
    (tmp_path / "archives").mkdir()
    manifest = generate("data", "imagenet1K", "--from", str(tmp_path / "archives"), "--job", *words)
    kube("apply", "-f", "-", text=manifest)

    def first_end() -> int | None:
        states = [
            status.get("state", {}).get("terminated", {}).get("exitCode")
            for pod in kube.all(namespace, "pods", "app.kubernetes.io/component=prepare")
            for status in pod["status"].get("containerStatuses", ())
        ]
        return next((code for code in states if code is not None), None)

    assert wait_for("the pod to end", first_end, 90) == 8
    log = kube.run("-n", namespace, "logs", "-l", "app.kubernetes.io/component=prepare").out
    assert "does not contain ILSVRC2012_img_train.tar, put ILSVRC2012_img_train.tar" in log
    kube("-n", namespace, "delete", "job", "--all", "--wait=false")
