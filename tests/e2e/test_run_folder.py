# SPDX-License-Identifier: Apache-2.0
"""`report --cluster` and `top` read the folder of a run on the cluster with a pod, which is gone afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from jobs import ROOT, settings, submit
from kube import Kube, wait_for

READER = "mpikit/reader=true"


def kit(kube: Kube, namespace: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What `generate.py WORDS` does."""
    command = [sys.executable, str(ROOT / "generate.py"), "--no-user-file", *words]
    place = ["-n", namespace, "--kubeconfig", kube.kubeconfig]
    return subprocess.run([*command, *place], text=True, capture_output=True, cwd=ROOT, timeout=180)


def planted(output: Path) -> None:
    """A run that trained for 20 steps, with a checkpoint's weights that nobody needs here."""
    run = output / "flowers"
    (run / "checkpoints" / "step_00000020").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 10, "loss": 0.5}\n{"step": 20, "loss": 0.25}\n')
    (run / "config.json").write_text('{"num_steps": 20}')
    (run / "checkpoints" / "step_00000020" / "model.pt").write_bytes(bytes(1 << 20))
    row = {"rank": 0, "host": "w-0", "step": 20, "phase": "eval", "idle_seconds": 1.5}
    (run / "live.json").write_text(json.dumps({"time": time.time(), "silent": [], "ranks": [row]}))


def test_a_run_is_read_through_a_pod_that_is_gone_afterwards(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the API server, the kubelet and the files on the node."""
    planted(output)
    values = ["-f", "values/cpu.yaml", *real_node_values, *settings(user="ada", output=output)]
    before = sorted(path.name for path in (output / "flowers").iterdir())

    found = kit(kube, namespace, "report", "flowers", "--cluster", "-o", "json", *values)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert [(row["step"], row["loss"]) for row in report["metrics"]] == [(10, 0.5), (20, 0.25)]
    assert (report["name"], report["num_steps"]) == ("flowers", 20)

    name = submit(kube, namespace, [*values, *settings(train__name="flowers", runPolicy__suspend="true")]).name
    kube("-n", namespace, "annotate", "mpijob", name, "mpikit/output-")  # as if this machine did not have the folder
    seen = kit(kube, namespace, "top", name, "-o", "json")
    assert seen.returncode == 0, seen.stderr
    assert [(one["rank"], one["phase"]) for one in json.loads(seen.stdout)["ranks"]] == [(0, "eval")]

    missing = kit(kube, namespace, "report", "roses", "--cluster", *values)
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (1, f"{output} does not contain the run roses")
    claim = kit(kube, namespace, "report", "flowers", "--cluster", *values, *settings(output="{pvc: nowhere}"))
    assert claim.returncode == 1
    assert f"claim nowhere of the output does not exist in namespace {namespace}" in claim.stderr
    nowhere = kit(kube, namespace, "report", "flowers", "--cluster", *values, *settings(output=output / "gone"))
    assert (nowhere.returncode, (output / "gone").exists()) == (1, False)
    assert "cannot mount the output folder" in nowhere.stderr

    wait_for("the pods to go", lambda: not kube.all(namespace, "pods", READER), 60)
    assert sorted(path.name for path in (output / "flowers").iterdir()) == before


def test_who_may_not_create_pods_is_told_so(
    kube: Kube, namespace: str, real_node_values: list[str], output: Path
) -> None:
    """Judged by the API server's authorization."""
    values = ["-f", "values/cpu.yaml", *real_node_values, *settings(user="ada", output=output)]
    kube("-n", namespace, "create", "serviceaccount", "reader")
    token = kube("-n", namespace, "create", "token", "reader").strip()
    config = json.loads(kube("config", "view", "--raw", "--flatten", "-o", "json"))
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    limited = output / "config"
    limited.write_text(json.dumps(config))
    done = kit(Kube(kube.kubectl, str(limited)), namespace, "report", "flowers", "--cluster", *values)
    assert done.returncode == 3
    assert "the run is read with a small pod, which is not allowed: " in done.stderr
    assert "fix: ask for the right to create and delete pods" in done.stderr
