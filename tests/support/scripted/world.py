# SPDX-License-Identifier: Apache-2.0
"""One schedule's world: a server, a kubeconfig, and a clock that jumps over every pause."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpikit.kube.client import Answer, Call, Cluster
from mpikit.kube.deadlines import PATIENCE
from tests.support.scripted.server import Scripted

NAMESPACE = "lab"
SLACK_SECONDS = 3.0  # real seconds that a busy machine may add to a call


class Clock:
    """Real time, and the pauses that nobody waited for."""

    def __init__(self) -> None:
        self.skipped, self.pauses, self.lock = 0.0, [], threading.Lock()  # type: ignore[var-annotated]
        self.hears: list[Any] = []

    def __call__(self) -> float:
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.skip(seconds)

    def skip(self, seconds: float) -> None:
        with self.lock:
            self.skipped += seconds
        for each in self.hears:
            each()


class TimedCluster(Cluster):
    """The kit's own connection; notes the real time of each call, and does not wait 20 s on a watch that is dead."""

    idle_seconds = 0.5
    slowest = 0.0

    def request(self, call: Call) -> Answer:
        began = time.monotonic()
        try:
            return super().request(call)
        finally:
            took = time.monotonic() - began
            TimedCluster.slowest = max(TimedCluster.slowest, took)
            limit = PATIENCE * min(self.request_seconds, 5.0) + SLACK_SECONDS
            assert took < limit, f"{call.method} {call.path} took {took:.1f} s"

    def stream(self, call: Call, idle_seconds: float, until: float = math.inf, *, steady: bool = False) -> Any:
        return super().stream(call, min(idle_seconds, self.idle_seconds), until, steady=steady)


@dataclass
class World:
    """What a schedule runs in."""

    server: Scripted
    folder: Path
    clock: Clock = field(default_factory=Clock)
    request_seconds: float = 5.0
    token_file: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kubeconfig = self.folder / "config"
        self.server.clock, self.server.pass_time, self.server.renew = self.clock, self.clock.skip, self.write
        self.clock.hears.append(self.server.time_passed)
        self.write(self.server.tokens[-1])

    def write(self, token: str) -> None:
        """Write the kubeconfig, and the file that holds its token if there is one."""
        user: dict[str, str] = {"token": token}
        if self.token_file:
            put(self.folder / "token", token)
            user = {"tokenFile": str(self.folder / "token")}
        put(self.kubeconfig, json.dumps(kubeconfig(self.server, user)))

    def cluster(self, **more: Any) -> TimedCluster:
        settings = {"request_seconds": self.request_seconds, "clock": self.clock, "sleep": self.clock.sleep}
        return TimedCluster(str(self.kubeconfig), **{**settings, "chance": lambda: 0.5, **more})

    def close(self) -> None:
        self.server.close()


def put(path: Path, text: str) -> None:
    """Replace a file in one step, as those who renew tokens do."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text)
    draft.rename(path)


def kubeconfig(server: Scripted, user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    """A kubeconfig of one context, as an object."""
    trusted = {"certificate-authority": str(server.certificates.authority)} if server.certificates else {}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": server.url, **trusted, **cluster}}],
        "users": [{"name": "ada", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "ada", "namespace": NAMESPACE}}],
    }
