# SPDX-License-Identifier: Apache-2.0
"""A job that is asked to stop, in each way that a cluster asks: all ranks save, no step is lost.

MPIKIT_STOPS=10 stops a job ten times in each way; once is the default.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs import RunningJob, json_lines, settings, steps_of, submit
from kube import Kube, wait_for

NUM_STEPS = 600
TIMES = int(os.environ.get("MPIKIT_STOPS", "1"))
STOP_SECONDS = 40  # less than the grace period of this small model, 46 s: nothing was killed


def words_for(values: list[str], output: Path, **more: object) -> list[str]:
    """Words for generate.py: a run of some 30 s that saves nothing by itself before it is stopped."""
    recipe = {
        "train__num_steps": NUM_STEPS,
        "train__eval_every": NUM_STEPS,
        "train__log_every": 5,
        "train__name": "run",
    }
    return ["-f", "values/cpu.yaml", *values, "--nodes", "2", *settings(user="ada", output=output, **recipe, **more)]


def started(kube: Kube, namespace: str, values: list[str], output: Path, **more: object) -> RunningJob:
    """A job that has trained some steps."""
    job = submit(kube, namespace, words_for(values, output, **more))
    wait_for("the first steps", lambda: json_lines(output / "run" / "metrics.jsonl") or fail_early(job), 240)
    return job


def fail_early(job: RunningJob) -> bool:
    """False while the job lives; a failed test with its story otherwise."""
    assert not job.holds("Failed"), job.story()
    return False


def delete_launcher(job: RunningJob) -> None:
    """kubectl delete pod, of the launcher."""
    job.kube("-n", job.namespace, "delete", "pod", job.launcher["metadata"]["name"], "--wait=false")


def delete_worker(job: RunningJob) -> None:
    """kubectl delete pod, of the second worker."""
    job.kube("-n", job.namespace, "delete", "pod", f"{job.name}-worker-1", "--wait=false")


def drain(job: RunningJob, role: str) -> None:
    """kubectl drain, of the node under these pods; it may be used again at once."""
    (node,) = {pod["spec"]["nodeName"] for pod in job.pods(role)}
    chosen = f"--pod-selector=training.kubeflow.org/job-name={job.name},training.kubeflow.org/job-role={role}"
    try:
        job.kube("drain", node, chosen, "--force", "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=70s")
    finally:
        job.kube("uncordon", node)


def drain_workers(job: RunningJob) -> None:
    """The node of the workers is drained."""
    drain(job, "worker")


def evict_launcher(job: RunningJob) -> None:
    """The node of the launcher is drained."""
    drain(job, "launcher")


def suspend(job: RunningJob) -> None:
    """suspend: true."""
    patch = {"spec": {"runPolicy": {"suspend": True}}}
    job.kube("-n", job.namespace, "patch", "mpijob", job.name, "--type=merge", "-p", json.dumps(patch))


def delete_job(job: RunningJob) -> None:
    """kubectl delete mpijob."""
    job.kube("-n", job.namespace, "delete", "mpijob", job.name, "--wait=false")


WAYS = (delete_launcher, evict_launcher, delete_worker, drain_workers, suspend, delete_job)


@pytest.mark.parametrize("time_number", range(TIMES))
@pytest.mark.parametrize("stop", WAYS, ids=lambda way: way.__name__)
def test_a_stop_loses_no_step(
    kube: Kube,
    namespace: str,
    real_node_values: list[str],
    output: Path,
    stop: Callable[[RunningJob], None],
    time_number: int,
) -> None:
    """Judged by the trainer's events (the step of the stop is the step saved) and mpirun's exit code, 143."""
    job = started(kube, namespace, real_node_values, output)
    stop(job)
    log = output / "logs" / f"{job.name}.launcher.log"
    wait_for(f"the launcher to end\n{job.story()}", lambda: "exit code" in log.read_text(), STOP_SECONDS)
    assert "exit code 143: stopped as asked" in log.read_text()
    check_saved(output / "run")


def check_saved(run: Path) -> None:
    """The last checkpoint holds the step at which the run stopped, and no later step was trained."""
    (stopped,) = steps_of(run, "stop")
    last = run / "checkpoints" / (run / "last").read_text().strip()
    assert json.loads((last / "state.json").read_text())["step"] == stopped
    assert json_lines(run / "metrics.jsonl")[-1]["step"] <= stopped < NUM_STEPS


def test_a_stopped_run_goes_on_under_a_new_name_to_the_end(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the operator (the second job Succeeded) and the trainer: it resumed at the step of the stop."""
    delete_job(started(kube, namespace, real_node_values, output))
    wait_for("the stop", lambda: steps_of(output / "run", "stop"), STOP_SECONDS)
    wait_for("the pods to go", lambda: not kube.pods(namespace), STOP_SECONDS)
    again = submit(kube, namespace, words_for(real_node_values, output, name="again"))
    assert again.wait_end(150) == "Succeeded", again.story()
    assert steps_of(output / "run", "resume") == steps_of(output / "run", "stop")
    assert steps_of(output / "run", "complete") == [NUM_STEPS]


def test_a_suspended_job_goes_on_when_it_is_resumed(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the operator (Succeeded after suspend: false) and the trainer: it resumed at the saved step."""
    job = started(kube, namespace, real_node_values, output)
    suspend(job)
    wait_for("the stop", lambda: steps_of(output / "run", "stop"), STOP_SECONDS)
    wait_for("the pods to go", lambda: not job.pods("worker"), STOP_SECONDS)
    patch = {"spec": {"runPolicy": {"suspend": False}}}
    kube("-n", namespace, "patch", "mpijob", job.name, "--type=merge", "-p", json.dumps(patch))
    assert job.wait_end(150) == "Succeeded", job.story()
    assert steps_of(output / "run", "resume") == steps_of(output / "run", "stop")


@pytest.mark.parametrize("delay_seconds", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 2.0])
def test_a_job_deleted_while_its_pods_start_is_gone_at_once(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path, delay_seconds: float
) -> None:
    """Judged by the kubelet: no pod uses up its grace period, whatever moment of its start was hit."""
    job = submit(kube, namespace, words_for(real_node_values, output))
    time.sleep(delay_seconds)
    delete_job(job)
    wait_for(f"the pods to go\n{job.story()}", lambda: not kube.pods(namespace), 20)


def test_a_job_with_nothing_to_save_ends_at_once(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the kubelet: while the launcher still waits for workers, all pods are gone within 15 s of a delete."""
    words = words_for(real_node_values, output, worker__nodeSelector='{"nobody": "has-this"}')
    job = submit(kube, namespace, words)
    wait_for("the launcher", lambda: job.launcher.get("status", {}).get("phase") == "Running", 60)
    delete_job(job)
    wait_for("the pods to go", lambda: not kube.pods(namespace), 15)
