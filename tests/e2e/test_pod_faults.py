# SPDX-License-Identifier: Apache-2.0
"""Jobs on real pods under all kinds of faults, several in one run: each ends with the weights of an undisturbed run.

Only `scripts/soak pods` runs them, with random kinds. POD_FAULT_SEED repeats a case.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from jobs import RunningJob, generate, json_lines, settings, submit
from kube import Kube, wait_for
from pod_faults import FAULTS, SMALL_VOLUME

CASES, FIRST = int(os.environ.get("POD_FAULT_CASES", "0")), int(os.environ.get("POD_FAULT_SEED", "0"))
IMAGES = ("vit-cpu:1", "vit-cpu-openmpi5:1")  # Open MPI 4 and 5
SAVE_EVERY = 20
MOST_FAULTS = 6
NUM_STEPS = 900  # a few hundred more than the faults need: steps go on while kubelet or API server stand still
FAULT_STEPS = 40  # more than a checkpoint's interval: what these steps of new numbers show has taken effect
END_SECONDS = 300

pytestmark = pytest.mark.skipif(
    "KUBECONFIG" in os.environ or os.geteuid() != 0, reason="it disturbs this machine's own node, as root"
)


def words(values: list[str], output: Path, image: str, file: Path) -> list[str]:
    """Words for generate.py: a run on two nodes that survives, whose workers have a small volume."""
    _, own_node, *rest = values
    content = yaml.safe_load(Path(own_node).read_text())
    content["worker"]["volumes"].append({"name": "small", "emptyDir": {"sizeLimit": "4Mi"}})
    content["worker"]["volumeMounts"].append({"name": "small", "mountPath": SMALL_VOLUME})
    file.write_text(yaml.safe_dump(content))
    recipe = {"train__num_steps": NUM_STEPS, "train__eval_every": NUM_STEPS, "train__log_every": 1}
    own = settings(user="ada", image=image, train__name="run", train__save_every=SAVE_EVERY, output=output, **recipe)
    own += settings(restarts__max=20, restarts__replaceWorkers="true", restarts__inPlace="true", train__num_workers=1)
    own += settings(train__train_batch_size=128)  # a step lasts long enough to be hit
    return ["-f", "values/cpu.yaml", "-f", str(file), *rest, "--nodes", "2", *own]


def start(kube: Kube, namespace: str, wanted: list[str]) -> RunningJob:
    """A job whose launcher may replace its workers."""
    kube("apply", "-f", "-", text=generate("rbac", *wanted, "-n", namespace))
    return submit(kube, namespace, wanted)


def weights(output: Path) -> str:
    """SHA-256 of the last weights."""
    return hashlib.sha256((output / f"run/checkpoints/step_{NUM_STEPS:08d}/model.pt").read_bytes()).hexdigest()


def last_step(output: Path) -> int:
    """Of metrics.jsonl, whose last line may be unfinished."""
    path = output / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1].split('"step": ')[1].split(",")[0]) if whole else 0


def recovery(output: Path, story: Callable[[], str]) -> float:
    """Seconds of the longest time without a new step from now until FAULT_STEPS more are done."""
    reached = seen = last_step(output)
    begin = since = time.monotonic()
    longest = 0.0
    while seen < reached + FAULT_STEPS and seen < NUM_STEPS:
        assert time.monotonic() - begin < END_SECONDS, f"step {seen}\n{story()}"
        time.sleep(0.1)
        now, step = time.monotonic(), last_step(output)
        if step != seen:
            longest, since, seen = max(longest, now - since), now, step
    return longest


def disturb(kube: Kube, namespace: str, wanted: list[str], output: Path, kinds: list[str]) -> str:
    """Run a job through these faults; a line on what they cost. Judged by attempts and goodput."""
    job = start(kube, namespace, wanted)
    took = []
    wait_for(f"step {FAULT_STEPS}", lambda: last_step(output) >= FAULT_STEPS, END_SECONDS)
    for kind in kinds:
        wait_for(f"a victim of: {kind}", lambda kind=kind: FAULTS[kind](job), 60)  # type: ignore[misc]
        took.append(recovery(output, job.story))
        RECOVERIES.setdefault(kind, []).append(took[-1])
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    attempts = [line for line in json_lines(output / "run" / "attempts.jsonl") if "attempt" in line]
    assert len(attempts) <= len(kinds) + 1, attempts
    assert all(one["steps_lost"] <= SAVE_EVERY for one in attempts), attempts
    account = json_lines(output / "run" / "goodput.jsonl")
    spent = sum(sum(line["seconds"].values()) for line in account)
    assert spent == pytest.approx(account[-1]["end"] - account[0]["start"], rel=0.01)
    costs = ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in zip(kinds, took, strict=True))
    lost = sum(one["steps_lost"] for one in attempts)
    return f"{len(attempts)} attempts, {lost} steps again; without a step: {costs}"


RECOVERIES: dict[str, list[float]] = {}
"""By kind of fault, over all cases of this process."""


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print what was seen, as docs/results.md shows it."""
    yield
    print("\n| fault | times | seconds without a step: median | longest |\n|---|---|---|---|")
    for kind, seconds in sorted(RECOVERIES.items()):
        print(f"| {kind} | {len(seconds)} | {statistics.median(seconds):.0f} | {max(seconds):.0f} |")
    if every := [one for seconds in RECOVERIES.values() for one in seconds]:
        print(f"| all | {len(every)} | {statistics.median(every):.0f} | {max(every):.0f} |")


@pytest.fixture(scope="module")
def calm_weights() -> dict[str, str]:
    """Of the undisturbed run, by image; made when first asked for."""
    return {}


def undisturbed(kube: Kube, namespace: str, wanted: list[str], output: Path) -> str:
    """The weights of the same run without faults."""
    job = start(kube, namespace, [*wanted, *settings(name="calm")])
    assert job.wait_end(END_SECONDS) == "Succeeded", job.story()
    return weights(output)


def chosen(seed: int) -> tuple[str, list[str]]:
    """An image and faults of a case. Two cases that follow each other have all kinds."""
    order = sorted(FAULTS)
    random.Random(f"pods/{seed // 2}").shuffle(order)
    return random.Random(f"image/{seed}").choice(IMAGES), order[seed % 2 :: 2][:MOST_FAULTS]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_a_run_survives_random_faults(
    kube: Kube,
    namespace: str,
    real_node_values: list[str],
    calm_weights: dict[str, str],
    output: Path,
    tmp_path: Path,
    seed: int,
) -> None:
    image, kinds = chosen(seed)
    wanted = words(real_node_values, output, image, tmp_path / "small.yaml")
    print(f"seed {seed}, {image}: {disturb(kube, namespace, wanted, output, kinds)}")
    if image not in calm_weights:
        (calm := tmp_path / "calm").mkdir()
        plain = words(real_node_values, calm, image, tmp_path / "small.yaml")
        calm_weights[image] = undisturbed(kube, namespace, plain, calm)
    assert weights(output) == calm_weights[image]
