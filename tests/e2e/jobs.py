# SPDX-License-Identifier: Apache-2.0
"""MPIJobs as the tests use them: printed by the command line, applied by kubectl, watched until they end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kube import Kube, Object, wait_for

ROOT = Path(__file__).resolve().parents[2]


def generate(*words: str) -> str:
    """What `python generate.py WORDS` prints."""
    command = [sys.executable, str(ROOT / "generate.py"), "--no-user-file", *words]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(**values: object) -> list[str]:
    """--set words; a double underscore stands for the dot."""
    return [word for key, value in values.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


@dataclass(frozen=True)
class RunningJob:
    """An MPIJob on the cluster."""

    kube: Kube
    namespace: str
    name: str

    @property
    def launcher(self) -> Object:
        """The launcher's pod; empty if there is none."""
        pods = self.pods("launcher")
        return pods[-1] if pods else {}

    def pods(self, role: str) -> list[Object]:
        """The job's pods of a role."""
        selector = f"training.kubeflow.org/job-name={self.name},training.kubeflow.org/job-role={role}"
        return self.kube.all(self.namespace, "pods", selector)

    def condition(self, name: str) -> Object:
        """A condition of the MPIJob; empty if it has none of that name."""
        status = self.kube.get(self.namespace, "mpijob", self.name).get("status", {})
        return next((one for one in status.get("conditions", ()) if one["type"] == name), {})

    def holds(self, name: str) -> bool:
        """Whether a condition is True."""
        return bool(self.condition(name).get("status") == "True")

    def log(self) -> str:
        """The launcher's log."""
        name = self.launcher.get("metadata", {}).get("name")
        return self.kube.run("-n", self.namespace, "logs", name).out if name else ""

    def story(self) -> str:
        """Everything that helps to understand a failed test."""
        logs = "\n".join(
            self.kube.run("-n", self.namespace, "logs", p["metadata"]["name"]).out for p in self.pods("worker")
        )
        pods = self.kube.run("-n", self.namespace, "get", "pods", "-o", "wide").out
        events = "\n".join(self.kube.events(self.namespace))
        return f"--- launcher\n{self.log()}\n--- workers\n{logs}\n--- pods\n{pods}\n--- events\n{events}"

    def wait_running(self, seconds: float = 60) -> None:
        """Wait until the operator says that it runs."""
        wait_for(f"{self.name} to run", lambda: self.holds("Running"), seconds)

    def wait_end(self, seconds: float) -> str:
        """Wait until it Succeeded or Failed, and say which."""

        def ended() -> str:
            return next((name for name in ("Succeeded", "Failed") if self.holds(name)), "")

        try:
            return str(wait_for(f"the end of {self.name}", ended, seconds))
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.story()}") from None

    def exit_code(self) -> int | None:
        """Exit code of the launcher's container; None while it runs."""
        return exit_code(self.launcher)


def exit_code(pod: Object) -> int | None:
    """Exit code of a pod's first container; None while it runs."""
    statuses = pod.get("status", {}).get("containerStatuses", [{}])
    code = statuses[0].get("state", {}).get("terminated", {}).get("exitCode")
    return None if code is None else int(code)


def submit(kube: Kube, namespace: str, words: Sequence[str]) -> RunningJob:
    """`generate.py WORDS -n NAMESPACE | kubectl apply -f -`."""
    manifest = generate(*words, "-n", namespace)
    applied = kube("apply", "-f", "-", text=manifest)
    name = next(line.split()[0].partition("/")[2] for line in applied.splitlines() if line.startswith("mpijob"))
    return RunningJob(kube, namespace, name)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if it is not there yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps_of(run: Path, event: str) -> list[int]:
    """The steps at which the trainer wrote this event."""
    return [line["step"] for line in json_lines(run / "events.jsonl") if line["event"] == event]
