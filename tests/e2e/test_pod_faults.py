# SPDX-License-Identifier: Apache-2.0
"""Jobs on real pods under all kinds of faults, several in one run: each ends with the weights of an undisturbed run.

Only `scripts/soak pods` runs them, with random kinds. POD_FAULT_SEED repeats a case.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from pathlib import Path

import pytest
import yaml
from jobs import RunningJob, generate, json_lines, settings, submit
from kube import Kube, wait_for
from pod_faults import FAULTS, SMALL_VOLUME

CASES, FIRST = int(os.environ.get("POD_FAULT_CASES", "0")), int(os.environ.get("POD_FAULT_SEED", "0"))
IMAGES = ("vit-cpu:1", "vit-cpu-openmpi5:1")  # Open MPI 4 and 5
SAVE_EVERY, GAP_STEPS = 20, 60
MOST_FAULTS = 4
END_SECONDS = 300

pytestmark = pytest.mark.skipif(
    "KUBECONFIG" in os.environ or os.geteuid() != 0, reason="it disturbs this machine's own node, as root"
)


def words(values: list[str], output: Path, image: str, num_steps: int, file: Path) -> list[str]:
    """Words for generate.py: a run on two nodes that survives, whose workers have a small volume."""
    _, own_node, *rest = values
    content = yaml.safe_load(Path(own_node).read_text())
    content["worker"]["volumes"].append({"name": "small", "emptyDir": {"sizeLimit": "4Mi"}})
    content["worker"]["volumeMounts"].append({"name": "small", "mountPath": SMALL_VOLUME})
    file.write_text(yaml.safe_dump(content))
    recipe = {"train__num_steps": num_steps, "train__eval_every": num_steps, "train__log_every": 1}
    own = settings(user="ada", image=image, train__name="run", train__save_every=SAVE_EVERY, output=output, **recipe)
    own += settings(restarts__max=20, restarts__replaceWorkers="true", restarts__inPlace="true", train__num_workers=1)
    return ["-f", "values/cpu.yaml", "-f", str(file), *rest, "--nodes", "2", *own]


def start(kube: Kube, namespace: str, wanted: list[str]) -> RunningJob:
    """A job whose launcher may replace its workers."""
    kube("apply", "-f", "-", text=generate("rbac", *wanted, "-n", namespace))
    return submit(kube, namespace, wanted)


def weights(output: Path, num_steps: int) -> str:
    """SHA-256 of the last weights."""
    return hashlib.sha256((output / f"run/checkpoints/step_{num_steps:08d}/model.pt").read_bytes()).hexdigest()


def last_step(output: Path) -> int:
    """Of metrics.jsonl, whose last line may be unfinished."""
    path = output / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1].split('"step": ')[1].split(",")[0]) if whole else 0


def disturb(kube: Kube, namespace: str, wanted: list[str], output: Path, kinds: list[str], num_steps: int) -> str:
    """Run a job through these faults; a line on what they cost. Judged by the weights, attempts and goodput."""
    job = start(kube, namespace, wanted)
    took = []
    for number, kind in enumerate(kinds, 1):
        wait_for(f"step {GAP_STEPS * number}", lambda n=number: last_step(output) >= GAP_STEPS * n, END_SECONDS)  # type: ignore[misc]
        wait_for(f"a victim of: {kind}", lambda kind=kind: FAULTS[kind](job), 60)  # type: ignore[misc]
        began, reached = time.monotonic(), last_step(output)
        wait_for(f"a step after: {kind}\n{job.story()}", lambda r=reached: last_step(output) > r + 1, END_SECONDS)  # type: ignore[misc]
        took.append(time.monotonic() - began)
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    attempts = [line for line in json_lines(output / "run" / "attempts.jsonl") if "attempt" in line]
    assert len(attempts) <= len(kinds) + 1, attempts
    assert all(one["steps_lost"] <= SAVE_EVERY for one in attempts), attempts
    account = json_lines(output / "run" / "goodput.jsonl")
    spent = sum(sum(line["seconds"].values()) for line in account)
    assert spent == pytest.approx(account[-1]["end"] - account[0]["start"], rel=0.01)
    costs = ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in zip(kinds, took, strict=True))
    lost = sum(one["steps_lost"] for one in attempts)
    return f"{len(attempts)} attempts, {lost} steps again; fault to a new step: {costs}"


def undisturbed(kube: Kube, namespace: str, wanted: list[str], output: Path, num_steps: int) -> str:
    """The weights of the same run without faults."""
    job = start(kube, namespace, wanted)
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    return weights(output, num_steps)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_a_run_survives_random_faults(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(f"pods/{seed}")
    image, kinds = chance.choice(IMAGES), chance.sample(sorted(FAULTS), chance.randint(1, MOST_FAULTS))
    num_steps, calm = GAP_STEPS * (MOST_FAULTS + 2), tmp_path / "calm"
    calm.mkdir()
    wanted = words(real_node_values, output, image, num_steps, tmp_path / "small.yaml")
    print(f"seed {seed}, {image}: {disturb(kube, namespace, wanted, output, kinds, num_steps)}")
    plain = words(real_node_values, calm, image, num_steps, tmp_path / "small.yaml")
    expected = undisturbed(kube, namespace, [*plain, *settings(name="calm")], calm, num_steps)
    assert weights(output, num_steps) == expected
