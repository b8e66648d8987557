# SPDX-License-Identifier: Apache-2.0
"""The pod that reads a run: what it is made of, what its script prints (run by sh), and what of that is believed."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpikit.errors import ClusterError, JobError
from mpikit.lifecycle.reader import MOST_PACKED, SCRIPT, reader_pod, unpacked
from mpikit.render.renderer import Rendered

PATTERNS = ("metrics.jsonl", "logs/*.log", "checkpoints/*/state.json")
Render = Callable[..., Rendered]


def mpijob(render_job: Render, *settings: str) -> Any:
    return next(item for item in yaml.safe_load_all(render_job(*settings).manifest) if item["kind"] == "MPIJob")


def printed(folder: Path, *patterns: str) -> list[str]:
    """What the script prints on this machine."""
    words = ["sh", "-c", SCRIPT, "reader", str(folder), *patterns]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "flowers"
    for folder in ("logs", "checkpoints/step_00000010"):
        (run / folder).mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 10}\n')
    (run / "logs" / "001.log").write_text("a line\n")
    (run / "checkpoints" / "step_00000010" / "state.json").write_text("{}")
    (run / "checkpoints" / "step_00000010" / "model.pt").write_bytes(bytes(1000))
    return run


def test_the_pod_mounts_the_output_and_nothing_else_and_reads_only(render_job: Render) -> None:
    job = mpijob(render_job, "output=/shared/output", "runAsUser=1000", "sshAuthMountPath=/home/mpi/.ssh")
    pod = reader_pod(job, "flowers", PATTERNS)
    (container,) = pod["spec"]["containers"]
    launcher = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]
    assert container["image"] == launcher["containers"][0]["image"]
    assert container["volumeMounts"] == [{"name": "output", "mountPath": "/output", "readOnly": True}]
    assert pod["spec"]["volumes"] == [{"name": "output", "hostPath": {"path": "/shared/output", "type": "Directory"}}]
    assert pod["spec"]["securityContext"] == launcher["securityContext"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["activeDeadlineSeconds"] <= 120
    assert container["command"][4:] == ["/output/flowers", *PATTERNS]
    assert not any("training.kubeflow.org" in name for name in pod["metadata"]["labels"])


def test_a_folder_of_a_claim_is_read_below_the_whole_claim(render_job: Render) -> None:
    pod = reader_pod(mpijob(render_job, "output={pvc: results, subPath: ada}"), "flowers", PATTERNS)
    assert pod["spec"]["volumes"] == [{"name": "output", "persistentVolumeClaim": {"claimName": "results"}}]
    assert pod["spec"]["containers"][0]["volumeMounts"] == [
        {"name": "output", "mountPath": "/output", "readOnly": True}
    ]
    assert pod["spec"]["containers"][0]["command"][4] == "/output/ada/flowers"


def test_a_job_without_an_output_folder_is_an_error(render_job: Render) -> None:
    job = mpijob(render_job)
    job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["volumes"] = []
    with pytest.raises(JobError, match="has no output folder"):
        reader_pod(job, "flowers", PATTERNS)


def test_the_files_that_are_asked_for_come_back_and_no_weights(run: Path) -> None:
    os.utime(run / "metrics.jsonl", (1.7e9, 1.7e9))
    found = unpacked(printed(run, *PATTERNS), PATTERNS)
    assert found["metrics.jsonl"].modified == 1.7e9
    assert {path: file.content for path, file in found.items()} == {
        "metrics.jsonl": b'{"step": 10}\n',
        "logs/001.log": b"a line\n",
        "checkpoints/step_00000010/state.json": b"{}",
    }


def test_links_and_pipes_are_not_read(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(run / "logs" / "002.log")
    assert unpacked(printed(run, *PATTERNS), PATTERNS).keys() == {
        "logs/001.log",
        "checkpoints/step_00000010/state.json",
    }


def test_a_run_without_such_files_is_empty(tmp_path: Path) -> None:
    assert unpacked(printed(tmp_path, *PATTERNS), PATTERNS) == {}


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    assert printed(tmp_path / "nowhere", *PATTERNS) == ["mpikit|missing"]


def test_a_run_that_does_not_fit_into_a_log_is_an_error(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(os.urandom(MOST_PACKED + 1000))
    with pytest.raises(ClusterError, match="have more than 6 MiB, compressed"):
        unpacked(printed(run, *PATTERNS), PATTERNS)


@pytest.mark.parametrize("name", ["../metrics.jsonl", "/etc/passwd", "logs/../a.log", "logs/a/b.log", "model.pt"])
def test_a_path_that_was_not_asked_for_is_left_out(name: str) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    text = base64.b64encode(file.getvalue()).decode()
    assert unpacked(["mpikit|begin", text, "mpikit|end"], PATTERNS) == {}


@pytest.mark.parametrize("text", ["!", "QUJD", "H4sIAAAA"])
def test_damaged_output_is_one_sentence(text: str) -> None:
    with pytest.raises(ClusterError, match="printed is damaged"):
        unpacked(["mpikit|begin", text, "mpikit|end"], PATTERNS)
