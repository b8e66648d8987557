# SPDX-License-Identifier: Apache-2.0
"""A job whose lost worker cannot be created anew for a while: it goes on with the other node, then with both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs import generate, json_lines, settings, steps_of, submit
from kube import Kube, wait_for

NUM_STEPS, SAVE_EVERY = 100_000, 50  # more steps than the test waits for
END_SECONDS = 400
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-other-pod"},
    "spec": {"hard": {"pods": "2"}},
}


def fewer_nodes(words: tuple[str, ...]) -> dict[str, Any] | None:
    """What `status` says, once it is that the job runs on fewer nodes."""
    found: dict[str, Any] = json.loads(generate(*words))
    return found if found["reason"] == "FewerNodes" else None


def sizes_of(run: Path) -> list[int]:
    """Number of ranks at each start."""
    return [line["world_size"] for line in json_lines(run / "events.jsonl") if "world_size" in line]


def test_a_job_goes_on_with_fewer_nodes_and_takes_the_lost_one_back(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """A quota keeps the operator from creating the deleted worker; Open MPI 4. Judged by the trainer's own events."""
    recipe = {"train__num_steps": NUM_STEPS, "train__eval_every": NUM_STEPS, "train__log_every": 5}
    own = settings(
        user="ada", image="vit-cpu:1", train__name="run", train__save_every=SAVE_EVERY, output=output, **recipe
    )
    few = settings(restarts__max=20, restarts__minNodes=1, restarts__waitSeconds=20)
    job = submit(kube, namespace, ["-f", "values/cpu.yaml", *real_node_values, "--nodes", "2", *own, *few])
    wait_for("a checkpoint", lambda: bool(steps_of(output / "run", "checkpoint")), END_SECONDS)
    kube("-n", namespace, "apply", "-f", "-", text=json.dumps(QUOTA))
    kube("-n", namespace, "delete", "pod", f"{job.name}-worker-1", "--wait=false")
    wait_for("a run on one node", lambda: "goes on with 1 of 2 nodes" in job.log(), END_SECONDS)
    live = output / "run" / "live.json"
    wait_for("a record of its rank", lambda: live.exists() and json.loads(live.read_text())["ranks"], END_SECONDS)
    assert [rank["host"] for rank in json.loads(live.read_text())["ranks"]] == [f"{job.name}-worker-0"], job.story()
    words = ("status", job.name, "-n", namespace, "--kubeconfig", kube.kubeconfig, "-o", "json")
    verdict = wait_for("training on one node", lambda: fewer_nodes(words), END_SECONDS)
    assert verdict["verdict"] == "Running"
    assert "trains with 1 of 2 nodes" in verdict["message"]
    assert "exceeded quota: no-other-pod" in verdict["message"]
    kube("-n", namespace, "delete", "resourcequota", "no-other-pod")
    wait_for("a run on both nodes", lambda: sizes_of(output / "run") == [2, 1, 2], END_SECONDS)
    records = [line for line in json_lines(output / "run" / "attempts.jsonl") if "attempt" in line]
    assert [line.get("nodes") for line in records] == [None, 1], job.story()
    assert records[1]["kind"] == "lost nodes work again"
    assert sum(line["steps_lost"] for line in records) <= SAVE_EVERY
