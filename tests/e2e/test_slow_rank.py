# SPDX-License-Identifier: Apache-2.0
"""A rank that gets less of its processor than the others is named, with its node, while the job runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest
from jobs import json_lines, settings, submit
from kube import Kube, Object, wait_for

CGROUPS = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS, QUOTA_MICROSECONDS = 100_000, 20_000
"""A fifth of a core: less than half of what a rank gets on a busy machine of two cores."""
END_SECONDS = 300

pytestmark = pytest.mark.skipif(
    "KUBECONFIG" in os.environ or os.geteuid() != 0, reason="it limits a process of this machine's node, as root"
)


def rank_in(pod: Object) -> int:
    """The process of the rank in a pod, as the node sees it."""
    uid = pod["metadata"]["uid"].encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"vit.train" in words and uid in (folder / "cgroup").read_bytes().replace(b"_", b"-"):
                return int(folder.name)
    raise AssertionError(f"no rank runs in {pod['metadata']['name']}")


def limit_cpu(pid: int) -> None:
    """Lower the CPU limit of the process's container, as a kubelet would (cgroup version 1 or 2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names == "cpu" or names.startswith("cpu,"):
            folder = CGROUPS / names / path.lstrip("/")
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (folder / "cpu.cfs_quota_us").write_text(str(QUOTA_MICROSECONDS))
            return
    path = Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")
    (CGROUPS / path / "cpu.max").write_text(f"{QUOTA_MICROSECONDS} {PERIOD_MICROSECONDS}")


def test_a_rank_with_less_cpu_is_named_within_100_steps(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the launcher's log and ranks.json; reports come every 5 s, so a step has to take a while."""
    recipe = {
        "train__num_steps": 100000,
        "train__eval_every": 100000,
        "train__log_every": 1,
        "train__train_batch_size": 32,
    }
    own = settings(user="ada", train__name="run", output=output, restarts__max=1, **recipe)
    job = submit(kube, namespace, ["-f", "values/cpu.yaml", *real_node_values, "--nodes", "2", *own])
    run = output / "run"
    wait_for("the first scores", (run / "ranks.json").exists, END_SECONDS)
    limit_cpu(rank_in(next(pod for pod in job.pods("worker") if pod["metadata"]["name"].endswith("-1"))))
    began = json_lines(run / "metrics.jsonl")[-1]["step"]
    slow = re.compile(rf"rank 1 on {job.name}-worker-1\S* is slow: score 0\.[0-6]")
    wait_for(f"the line on the slow rank\n{job.story()}", lambda: slow.search(job.log()), END_SECONDS)
    assert json_lines(run / "metrics.jsonl")[-1]["step"] <= began + 100
    scores = {row["rank"]: row["score"] for row in json.loads((run / "ranks.json").read_text())["ranks"]}
    assert scores[1] < 0.7 <= scores[0]
