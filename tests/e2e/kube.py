# SPDX-License-Identifier: Apache-2.0
"""kubectl as the tests use it: the real program against a real API server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
COMMAND_SECONDS = 300
PATIENCE = 3  # limits end a test that would wait for ever; two clusters share the cores of a small machine


@dataclass(frozen=True)
class Result:
    """What one call of kubectl gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kube:
    """One cluster."""

    kubectl: str
    kubeconfig: str

    def run(self, *words: str, text: str | None = None) -> Result:
        """Call kubectl, whatever comes of it."""
        command = [self.kubectl, "--kubeconfig", self.kubeconfig, *words]
        done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=COMMAND_SECONDS)
        return Result(done.returncode, done.stdout, done.stderr)

    def __call__(self, *words: str, text: str | None = None) -> str:
        """Call kubectl, which must succeed; its stdout."""
        result = self.run(*words, text=text)
        assert result.code == 0, f"kubectl {' '.join(words)}: {result.err}"
        return result.out

    def get(self, namespace: str, kind: str, name: str) -> Object:
        """One object; empty if there is none."""
        found: Object = json.loads(self("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found") or "{}")
        return found

    def all(self, namespace: str, kind: str, selector: str = "") -> list[Object]:
        """The objects of a kind, by name."""
        words = ("-n", namespace, "get", kind, "-o", "json", *(("-l", selector) if selector else ()))
        return sorted(json.loads(self(*words))["items"], key=lambda item: str(item["metadata"]["name"]))

    def create(self, *objects: Object) -> None:
        """Create objects."""
        self("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def pods(self, namespace: str, role: str = "") -> list[Object]:
        """Pods of the MPI Operator, of one role if it is named."""
        return self.all(namespace, "pods", f"training.kubeflow.org/job-role={role}" if role else "")

    def events(self, namespace: str) -> list[str]:
        """Reason and message of every event."""
        return [f"{item['reason']}: {item.get('message', '')}" for item in self.all(namespace, "events")]


def wait_for(what: str, found: Callable[[], Any], seconds: float) -> Any:
    """The first answer of `found` that is not false; a failed test after PATIENCE times `seconds`."""
    deadline, pause = time.monotonic() + PATIENCE * seconds, 0.2
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited {PATIENCE * seconds} s for {what}"
        time.sleep(pause)
        pause = min(1.0, 1.3 * pause)  # each question is a process of kubectl
    return answer
