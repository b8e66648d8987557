# SPDX-License-Identifier: Apache-2.0
"""tensorboard: the Job and the Service for the cluster, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpikit.config.job import Job
from mpikit.config.prepare import tensorboard_task
from mpikit.render.context import image_of
from mpikit.render.payload import read_payload
from mpikit.render.renderer import render_task
from mpikit.resources import ROOT
from tests.conftest import STUB, Command


def rendered(job: Job) -> list[Any]:
    return list(yaml.safe_load_all(render_task(job, tensorboard_task(job, "flowers"), STUB)))


def test_the_pod_reads_output_with_the_image_of_the_values_and_no_card(make_job: Callable[..., Job]) -> None:
    job = make_job("runAsUser=1000", "sshAuthMountPath=/home/mpi/.ssh")
    kit, manifest, _ = rendered(job)
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (manifest["metadata"]["namespace"], pod["serviceAccountName"]) == ("ada-restricted", "ada")
    assert container["image"] == image_of(job)
    assert container["command"][1:4] == ["-m", "vit.tensorboard", "/output/flowers"]
    assert container["readinessProbe"]["tcpSocket"] == {"port": 6006}
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"] if mount["mountPath"] != "/etc/passwd"}
    assert mounts.keys() == {"kit", "output"}
    assert mounts["output"] == {"name": "output", "mountPath": "/output", "readOnly": True}
    assert pod["volumes"][0]["configMap"]["name"] == kit["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsUser"] == 1000


def test_the_service_finds_the_pod_and_no_other(make_job: Callable[..., Job]) -> None:
    job = make_job()
    kit, manifest, service = rendered(job)
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "tensorboard"
    port = manifest["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    assert [(one["port"], one["targetPort"]) for one in service["spec"]["ports"]] == [(int(port), int(port))]
    wanted = {"app.kubernetes.io/managed-by": "mpikit", "app.kubernetes.io/instance": job.job_name}
    assert all(wanted.items() <= item["metadata"]["labels"].items() for item in (kit, manifest, service))


def test_the_longest_name_of_a_job_still_gives_a_valid_service(make_job: Callable[..., Job]) -> None:
    name = tensorboard_task(make_job("name=" + "a" * 40), "x").name
    assert len(name) <= 63
    assert name.endswith("-tensorboard")


def test_the_command_says_how_to_connect(make_job: Callable[..., Job]) -> None:
    job = make_job("name=lab")
    name = f"{job.job_name}-tensorboard"
    assert tensorboard_task(job, "x").after_it("ns") == (
        f"next: kubectl -n ns wait --for=jsonpath='{{.status.ready}}'=1 job/{name} --timeout=10m && "
        f"kubectl -n ns port-forward service/{name} 6006, then open http://localhost:6006"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "RUN: is missing\n  fix: give the folder of a run, such as output/NAME, or use --job"),
        (("--job", "output/flowers"), "is not the name of a run in `output`\n  fix: write its name without /"),
        (("--job", "..", "--port", "80"), "--job and --port cannot be combined"),
    ],
)
def test_what_cannot_be_is_one_error(generate: Command, words: tuple[str, ...], told: str) -> None:
    done = generate("tensorboard", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_without_tensorboard_the_error_says_what_to_install(generate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "tensorboard" else found(name))
    done = generate("tensorboard", "output/a")
    assert done.returncode == 1
    assert "vit.tensorboard needs TensorBoard, and this Python (" in done.stderr
    assert "fix: pip install tensorboard" in done.stderr


def test_the_program_runs_from_the_zip_of_its_job_and_is_not_in_a_training_job(tmp_path: Path) -> None:
    payload = read_payload(ROOT / "vit")
    assert not [name for name in payload.training().files if name.startswith("vit/tensorboard/")]
    (tmp_path / "vit.zip").write_bytes(payload.jobs().zipped())
    command = [sys.executable, "-m", "vit.tensorboard", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "vit.zip")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith(f"vit.tensorboard: {tmp_path}: contains no metrics.jsonl")
