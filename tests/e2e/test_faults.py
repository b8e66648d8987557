# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in pods, on the real node: late workers, dead ranks."""

from __future__ import annotations

import json
from pathlib import Path

from jobs import json_lines, settings, steps_of, submit
from kube import Kube, wait_for
from test_stops import NUM_STEPS, started, words_for

LATE_SECONDS = 30
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_a_launcher_waits_for_workers_whose_sshd_comes_30_s_late(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path, tmp_path: Path
) -> None:
    """Judged by the operator (Succeeded) and the kubelet: the launcher ran long before a worker was ready."""
    late = tmp_path / "late"
    late.mkdir()
    (late / "sshd").write_text(f'#!/bin/bash\nsleep {LATE_SECONDS}\nexec /usr/sbin/sshd "$@"\n')
    (late / "sshd").chmod(0o755)
    own = tmp_path / "late.yaml"
    own.write_text(json.dumps(with_folder(real_node_values, late)))
    words = [*words_for(real_node_values, output), "-f", str(own), *settings(train__num_steps=50, train__eval_every=50)]
    job = submit(kube, namespace, words)
    wait_for("the launcher", lambda: job.launcher.get("status", {}).get("phase") == "Running", 30)
    assert "True" not in [ready(pod)["status"] for pod in job.pods("worker")]
    assert job.wait_end(LATE_SECONDS + 90) == "Succeeded", job.story()
    assert "waiting for worker 1 of 2" in job.log()


def ready(pod: dict[str, object]) -> dict[str, str]:
    """The condition Ready of a pod."""
    status = json.loads(json.dumps(pod["status"]))
    return next((one for one in status.get("conditions", ()) if one["type"] == "Ready"), {"status": "False"})


def with_folder(values: list[str], folder: Path) -> dict[str, object]:
    """Values that add a folder to the workers, first in PATH. Lists replace, so the real node's own are repeated."""
    import yaml

    own = yaml.safe_load(Path(values[1]).read_text()) if values else {}
    worker = {"volumes": [], "volumeMounts": []} | own.get("worker", {})
    volume = {"name": "late", "hostPath": {"path": str(folder)}}
    mount = {"name": "late", "mountPath": "/late"}
    added = {"volumes": [*worker["volumes"], volume], "volumeMounts": [*worker["volumeMounts"], mount]}
    return {"worker": added, "env": [{"name": "PATH", "value": f"/late:{PATH}"}]}


def test_a_killed_rank_fails_the_job_which_goes_on_from_its_checkpoint_under_a_new_name(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by mpirun (137, signal 9), the operator (Failed, then Succeeded) and the trainer's events (resume)."""
    job = started(kube, namespace, real_node_values, output, train__save_every=100)
    wait_for("a checkpoint", lambda: steps_of(output / "run", "checkpoint"), 60)
    kill = 'kill -9 "$(basename /tmp/mpikit/ranks/*)"'
    kube("-n", namespace, "exec", f"{job.name}-worker-1", "--", "bash", "-c", kill)
    assert job.wait_end(60) == "Failed", job.story()
    assert job.exit_code() == 137
    assert "signal 9" in job.log()
    saved = steps_of(output / "run", "checkpoint")[-1]
    again = submit(kube, namespace, words_for(real_node_values, output, name="again", train__save_every=100))
    assert again.wait_end(150) == "Succeeded", again.story()
    assert steps_of(output / "run", "resume") == [saved]
    assert steps_of(output / "run", "complete") == [NUM_STEPS]


def test_a_worker_killed_without_warning_fails_the_job_within_a_minute(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the operator: a worker pod deleted with no grace leaves a Failed job, not one that hangs."""
    job = started(kube, namespace, real_node_values, output)
    kube("-n", namespace, "delete", "pod", f"{job.name}-worker-1", "--grace-period=0", "--force", "--wait=false")
    assert job.wait_end(60) == "Failed", job.story()
    assert json_lines(output / "run" / "metrics.jsonl")
