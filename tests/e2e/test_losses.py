# SPDX-License-Identifier: Apache-2.0
"""A node that is lost in mid-training, on real pods: the job Fails and says why; only a proved end Succeeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jobs import RunningJob, json_lines, settings, steps_of, submit
from kube import Kube, wait_for

IMAGES = ("vit-cpu:1", "vit-cpu-openmpi5:1")  # Open MPI 4 and 5
NUM_STEPS = 5000
END_SECONDS = 240  # for a busy machine; a loss ends a job in seconds
KILL_DAEMON = 'for f in /proc/[0-9]*/comm; do case "$(<"$f")" in orted | prted) kill -9 "${f//[^0-9]/}" ;; esac; done'
KILL_CONNECTION = 'for f in /proc/[0-9]*/comm; do case "$(<"$f")" in sshd*) kill -9 "${f//[^0-9]/}" ;; esac; done'
"""Kills the processes of sshd that serve connections; sshd itself is process 1, which a pod's own kill -9 spares."""
KILL_SSHD = "kill 1"
"""Ends sshd and with it the whole pod."""
WAYS = {"daemon-1": (1, KILL_DAEMON), "daemon-0": (0, KILL_DAEMON)}
WAYS |= {"connection": (1, KILL_CONNECTION), "sshd-1": (1, KILL_SSHD), "sshd-0": (0, KILL_SSHD)}
IN_CI = [("daemon-1", IMAGES[1]), ("connection", IMAGES[0]), ("sshd-0", IMAGES[1])]
EVERY = os.environ.get("MPIKIT_LOSSES") == "all"
"""MPIKIT_LOSSES=all tries every way under both; CI tries three of the ten, half a minute each."""
LOSSES = [(way, image) for way in WAYS for image in IMAGES] if EVERY else IN_CI


def words_for(values: list[str], image: str, num_steps: int, **more: object) -> list[str]:
    """Words for generate.py: a run on two nodes."""
    recipe = {"train__num_steps": num_steps, "train__eval_every": num_steps, "train__log_every": 5}
    words = settings(user="ada", image=image, train__name="run", train__save_every=20, **recipe, **more)
    return ["-f", "values/cpu.yaml", *values, "--nodes", "2", *words]


def started(job: RunningJob, output: Path) -> None:
    """Wait for the first checkpoint."""

    def saved() -> bool:
        assert not job.holds("Failed"), job.story()
        return bool(steps_of(output / "run", "checkpoint"))

    wait_for(f"a checkpoint\n{job.story()}", saved, END_SECONDS)


@pytest.mark.parametrize(("way", "image"), LOSSES)
def test_a_lost_daemon_fails_the_job_and_the_launcher_says_why(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path, way: str, image: str
) -> None:
    """Judged by the MPI Operator (Failed), the kubelet (exit code 6) and the launcher's log."""
    worker, kill = WAYS[way]
    job = submit(kube, namespace, words_for(real_node_values, image, NUM_STEPS, output=output))
    started(job, output)
    kube.run("-n", namespace, "exec", f"{job.name}-worker-{worker}", "--", "bash", "-c", kill)
    assert job.wait_end(END_SECONDS) == "Failed", job.story()
    log = job.log()
    assert job.exit_code() == 6, log
    assert "the run is complete" not in log
    assert "daemon" in log
    assert not steps_of(output / "run", "complete")
    assert json_lines(output / "run" / "metrics.jsonl")[-1]["step"] < NUM_STEPS


@pytest.mark.parametrize("image", IMAGES if EVERY else IMAGES[1:])
def test_a_job_without_an_output_claim_proves_its_end_by_the_workers_record(
    kube: Kube, namespace: str, real_node_values: list[str], image: str
) -> None:
    """Judged by the MPI Operator: the launcher mounts no output of the ranks, so it reads the record by ssh."""
    job = submit(kube, namespace, words_for(real_node_values, image, 20))
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    assert "the run is complete" in job.log()


@pytest.mark.parametrize("image", IMAGES if EVERY else IMAGES[:1])
def test_a_run_that_was_complete_already_succeeds_again(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path, image: str
) -> None:
    """Judged by the MPI Operator, for a second job of another name with the same output."""
    words = words_for(real_node_values, image, 20, output=output)
    assert submit(kube, namespace, words).wait_end(END_SECONDS) == "Succeeded"
    again = submit(kube, namespace, [*words, *settings(name="again")])
    assert again.wait_end(END_SECONDS) == "Succeeded", again.story()
    assert "nothing to do" in again.log()
