# SPDX-License-Identifier: Apache-2.0
"""A job that an earlier version of the kit created is shown, and deleted with all that is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jobs import ROOT, settings
from kube import Kube, wait_for

sys.path.insert(0, str(ROOT))
from tests.support.earlier import earlier_checkout


def test_a_job_of_an_earlier_version_is_shown_and_deleted(kube: Kube, simulated_namespace: str, tmp_path: Path) -> None:
    space, before = simulated_namespace, earlier_checkout(tmp_path / "before")
    words = ("-f", "values/cpu.yaml", *settings(user="ada", name="older"), "-n", space)
    command = [sys.executable, "generate.py", "--no-user-file", *words]
    manifest = subprocess.run(command, cwd=before, capture_output=True, text=True, check=True).stdout
    kube("-n", space, "create", "-f", "-", text=manifest)
    wait_for("its launcher", lambda: len(kube.all(space, "pods", "training.kubeflow.org/job-name=older")) > 1, 60)

    def run(*verb: str) -> subprocess.CompletedProcess[str]:
        place = ("-n", space, "--kubeconfig", kube.kubeconfig, "--set", "user=ada", "--no-user-file")
        command = [sys.executable, str(ROOT / "generate.py"), verb[0], *place, *verb[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    shown = run("status", "older")
    assert shown.returncode == 0, shown.stderr
    assert "older" in shown.stdout
    assert "Unknown" not in shown.stdout
    log = run("logs", "older")
    assert "Traceback" not in log.stderr
    assert log.returncode in (0, 1), log.stderr  # a simulated pod has no log
    deleted = run("delete", "older", "--wait")
    assert deleted.returncode == 0, deleted.stderr
    assert kube.all(space, "mpijobs", "") == []
    assert [one for one in kube.all(space, "configmaps", "") if one["metadata"]["name"].startswith("older")] == []
