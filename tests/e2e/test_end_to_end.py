# SPDX-License-Identifier: Apache-2.0
"""Whole jobs on the real node: scheduler, kubelet, sshd, mpirun and the trainer all take part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from jobs import RunningJob, generate, json_lines, settings, steps_of, submit
from kube import Kube, wait_for

NUM_STEPS = 200


def digits_words(values: list[str], digits: Path, output: Path, **more: object) -> list[str]:
    """Words for generate.py: the shipped CPU values on digits, two nodes."""
    recipe = {"train__dataset": "imagefolder", "train__num_steps": NUM_STEPS, "train__eval_every": 100}
    words = settings(user="ada", dataset=digits, output=output, train__name="digits", **recipe, **more)
    return ["-f", "values/cpu.yaml", *values, "--nodes", "2", *words]


def check_results(run: Path) -> None:
    """The trainer's own files say that the run is complete, and its last checkpoint is whole."""
    assert steps_of(run, "complete") == [NUM_STEPS]
    last = run / "checkpoints" / (run / "last").read_text().strip()
    manifest = json.loads((last / "MANIFEST.json").read_text())
    assert manifest
    assert json.loads((last / "state.json").read_text())["step"] == NUM_STEPS
    assert json_lines(run / "metrics.jsonl")[-1]["step"] == NUM_STEPS


@pytest.mark.parametrize("image", ["vit-cpu:1", "vit-cpu-openmpi5:1"])
def test_two_nodes_train_digits_to_the_end(
    kube: Kube, namespace: str, real_node_values: list[str], digits: Path, output: Path, image: str
) -> None:
    """Judged by the MPI Operator (Succeeded), the kubelet (exit code 0, pods gone) and the trainer's files.

    Its images are decoded by processes in the memory that a pod has.
    """
    words = digits_words(real_node_values, digits, output, image=image, train__num_workers=2)
    job = submit(kube, namespace, words)
    assert job.wait_end(120) == "Succeeded", job.story()
    assert job.exit_code() == 0
    check_results(output / "digits")
    wait_for("the workers to go, as cleanPodPolicy Running says", lambda: not job.pods("worker"), 30)
    assert job.launcher, "the launcher's pod and its log stay"


def test_each_of_two_worker_pods_runs_one_rank(
    kube: Kube, namespace: str, real_node_values: list[str], digits: Path, output: Path
) -> None:
    """Judged by the processes in the pods, which kubectl exec looks at."""
    words = digits_words(real_node_values, digits, output, train__num_workers=0) + settings(train__num_steps=5000)
    job = submit(kube, namespace, words)
    wait_for("the first steps", lambda: json_lines(output / "digits" / "metrics.jsonl"), 60)
    workers = [pod["metadata"]["name"] for pod in job.pods("worker")]
    alive = 'for f in /tmp/mpikit/ranks/*; do grep -qs vit.train "/proc/${f##*/}/cmdline" && echo "${f##*/}"; done'
    ranks = [kube("-n", namespace, "exec", name, "--", "bash", "-c", alive).split() for name in workers]
    assert [len(one) for one in ranks] == [1, 1]
    assert json_lines(output / "digits" / "events.jsonl")[0]["world_size"] == 2


def test_scripts_and_trainer_from_a_shared_folder_train_to_the_end(
    kube: Kube, namespace: str, real_node_values: list[str], digits: Path, output: Path, tmp_path: Path
) -> None:
    """Judged as the first test; here the pods take the files that --out wrote (delivery: mydir)."""
    kit = tmp_path / "kit"
    words = digits_words(real_node_values, digits, output, delivery="mydir", mydir=kit)
    generate(*words, "-n", namespace, "--out", str(kit))
    kube("apply", "-f", str(kit / "job.yaml"))
    (name,) = [item["metadata"]["name"] for item in kube.all(namespace, "mpijobs")]
    job = RunningJob(kube, namespace, name)
    assert job.wait_end(120) == "Succeeded", job.story()
    check_results(output / "digits")


def test_a_changed_copy_in_the_shared_folder_is_refused(
    kube: Kube, namespace: str, real_node_values: list[str], digits: Path, output: Path, tmp_path: Path
) -> None:
    """Judged by sha256sum in the launcher: exit code 2, and no rank starts."""
    kit = tmp_path / "kit"
    words = digits_words(real_node_values, digits, output, delivery="mydir", mydir=kit)
    generate(*words, "-n", namespace, "--out", str(kit))
    shutil.copy(kit / "setup.sh", kit / "rank.sh")
    kube("apply", "-f", str(kit / "job.yaml"))
    (name,) = [item["metadata"]["name"] for item in kube.all(namespace, "mpijobs")]
    job = RunningJob(kube, namespace, name)
    assert job.wait_end(90) == "Failed", job.story()
    assert job.exit_code() == 2
    assert not (output / "digits").exists()
