# SPDX-License-Identifier: Apache-2.0
"""Jobs that lose a rank, a worker pod or a whole sshd on real pods, and go on by themselves or after `repair`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs import ROOT, RunningJob, generate, json_lines, settings, steps_of, submit
from kube import Kube, wait_for

IMAGES = ("vit-cpu:1", "vit-cpu-openmpi5:1")  # Open MPI 4 and 5
NUM_STEPS, SAVE_EVERY = 600, 20
END_SECONDS = 300
KILL_RANK = 'for f in /proc/[0-9]*/cmdline; do if grep -qs "vit[.]train" "$f"; then kill -9 "${f//[^0-9]/}"; fi; done'


def words(values: list[str], output: Path, image: str) -> list[str]:
    """Words for generate.py: a run on two nodes that survives."""
    recipe = {"train__num_steps": NUM_STEPS, "train__eval_every": NUM_STEPS, "train__log_every": 5}
    own = settings(user="ada", image=image, train__name="run", train__save_every=SAVE_EVERY, output=output, **recipe)
    return ["-f", "values/cpu.yaml", *values, "--nodes", "2", *own, *settings(restarts__max=20)]


def kill_rank(kube: Kube, job: RunningJob) -> None:
    kube.run("-n", job.namespace, "exec", f"{job.name}-worker-1", "--", "bash", "-c", KILL_RANK)


def delete_worker(kube: Kube, job: RunningJob) -> None:
    kube("-n", job.namespace, "delete", "pod", f"{job.name}-worker-1", "--wait=false")


def end_sshd(kube: Kube, job: RunningJob) -> None:
    """End process 1 of a worker, and so its pod, which stays; then call `repair`, as the log says."""
    kube.run("-n", job.namespace, "exec", f"{job.name}-worker-1", "--", "bash", "-c", "kill 1")
    wait_for("the line that names repair", lambda: f"generate.py repair {job.name}" in job.log(), END_SECONDS)
    words = ["repair", job.name, "-n", job.namespace, "--kubeconfig", kube.kubeconfig, "--no-user-file", "--force"]
    command = [sys.executable, "generate.py", *words]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, f'pod "{job.name}-worker-1" deleted\n'), done.stderr


def test_a_launcher_with_the_rights_replaces_a_failed_worker(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """The output of `rbac` is applied unchanged, and `repair` is not called."""
    account = [*words(real_node_values, output, IMAGES[0]), *settings(restarts__replaceWorkers="true")]
    kube("apply", "-f", "-", text=generate("rbac", *account, "-n", namespace))
    job = submit(kube, namespace, account)
    wait_for("a checkpoint", lambda: bool(steps_of(output / "run", "checkpoint")), END_SECONDS)
    kube.run("-n", job.namespace, "exec", f"{job.name}-worker-1", "--", "bash", "-c", "kill 1")
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    assert f"worker pod {job.name}-worker-1 has ended (" in job.log()


def test_a_launcher_that_is_killed_starts_anew_in_its_pod(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the kubelet's restart count and by the run's folder; backoffLimit is 0."""
    job = submit(kube, namespace, [*words(real_node_values, output, IMAGES[1]), *settings(restarts__inPlace="true")])
    wait_for("a checkpoint", lambda: bool(steps_of(output / "run", "checkpoint")), END_SECONDS)
    uid = json_lines(output / "run" / "attempts.jsonl")[0]["job"]
    os.kill(supervisor_of(uid), signal.SIGKILL)
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    assert job.launcher["status"]["containerStatuses"][0]["restartCount"] == 1
    kinds = [line.get("kind") for line in json_lines(output / "run" / "attempts.jsonl") if "attempt" in line]
    assert kinds == ["a rank or node was lost", "complete"]
    account = json_lines(output / "run" / "goodput.jsonl")
    spent = sum(sum(line["seconds"].values()) for line in account)
    assert spent == pytest.approx(account[-1]["end"] - account[0]["start"], rel=0.01)


def supervisor_of(uid: str) -> int:
    """The process of a launcher, as the node sees it; `uid` is that of the launcher's Job."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"vit.supervise" in command and uid.encode() in command:
                return int(folder.name)
    raise AssertionError(f"no launcher runs for Job {uid}")


@pytest.mark.parametrize(
    ("fault", "image"), [(kill_rank, IMAGES[1]), (delete_worker, IMAGES[0]), (end_sshd, IMAGES[0])]
)
def test_a_job_survives_what_a_cluster_does(
    kube: Kube,
    namespace: str,
    real_node_values: list[str],
    output: Path,
    fault: Callable[[Kube, RunningJob], None],
    image: str,
) -> None:
    """Judged by the MPI Operator (Succeeded), the run's folder and the trainer's own events."""
    job = submit(kube, namespace, words(real_node_values, output, image))
    wait_for("a checkpoint", lambda: bool(steps_of(output / "run", "checkpoint")), END_SECONDS)
    fault(kube, job)
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    records = json_lines(output / "run" / "attempts.jsonl")
    first, *_, last = (record for record in records if "attempt" in record)
    assert first["steps_lost"] <= SAVE_EVERY, first
    assert last["verdict"] == 0
    assert len(last["job"]) == 36, "the uid of the launcher's Job"
    assert steps_of(output / "run", "complete") == [NUM_STEPS]
    assert "complete after" in job.log()
