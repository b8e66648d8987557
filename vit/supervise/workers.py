# SPDX-License-Identifier: Apache-2.0
"""Delete worker pods that have ended, through the API server, with the token of the launcher's service account.

The MPI Operator creates a worker only if no pod of its name exists (0.8.2, mpi_job_controller.go). `generate.py rbac`
prints the rights: to get and delete the workers of this job, by name.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # Kubernetes mounts token, ca.crt, namespace
EVERY_SECONDS = 10.0
SELDOM_SECONDS = 60.0  # while the job runs without those workers
REQUEST_SECONDS = 10.0
OVER = ("Succeeded", "Failed")


class ApiError(Exception):
    """The API server refused, or could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    """The API server as a pod reaches it."""

    host: str
    port: int
    account: Path = ACCOUNT

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return the pod; None if there is none. Raises ApiError."""
        return self._ask("GET", name)

    def delete(self, name: str, uid: str) -> None:
        """Delete the pod, unless another has its name by now. Raises ApiError."""
        try:
            self._ask("DELETE", name, {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}})
        except ApiError as error:
            if error.status != http.client.CONFLICT:
                raise

    def _ask(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        try:
            token = (self.account / "token").read_text().strip()  # the kubelet replaces it every hour
            namespace = (self.account / "namespace").read_text().strip()
            context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
            server = http.client.HTTPSConnection(self.host, self.port, timeout=REQUEST_SECONDS, context=context)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            server.request(method, path, body=json.dumps(body) if body else None, headers=headers)
            answer = server.getresponse()
            content = answer.read()
            server.close()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, f"the API server does not answer ({error})") from None
        if answer.status == http.client.NOT_FOUND:
            return None
        if answer.status >= http.client.BAD_REQUEST:
            raise ApiError(answer.status, f"the API server answers with {answer.status} {answer.reason}")
        try:
            found: dict[str, Any] = json.loads(content)
        except ValueError:
            raise ApiError(answer.status, "the API server does not answer with JSON") from None
        return found


def api_of(environment: Mapping[str, str], account: Path = ACCOUNT) -> Api | None:
    """Return the API server of this pod; None without a token."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdecimal() or not (account / "token").is_file():
        return None
    return Api(host, int(port), account)


@dataclass
class Replacer:
    """Replaces the ended workers of this job while a restart waits for them."""

    api: Api | None
    hostfile: Path
    say: Callable[[str], None]
    reported: set[str] = field(default_factory=set)
    _done: threading.Event | None = None

    def start(self, every: float = EVERY_SECONDS) -> None:
        """Look after the workers in a thread, every so many seconds."""
        self.stop()
        if self.api:
            self._done = threading.Event()
            threading.Thread(target=self._work, args=(self._done, every), daemon=True).start()

    def stop(self) -> None:
        """End that; the thread ends with its request, at the latest with the process."""
        if self._done:
            self._done.set()
            self._done = None

    def _work(self, done: threading.Event, every: float) -> None:
        while not done.is_set() and self.replace():
            done.wait(every)

    def replace(self) -> bool:
        """Delete each worker that has ended; return whether it is worth trying again."""
        assert self.api
        for name in (host.partition(".")[0] for host in hosts_in(self.hostfile)):
            try:
                pod = self.api.pod(name)
                if pod and _over(pod):
                    self.api.delete(name, pod["metadata"]["uid"])
                    self.say(f"worker pod {name} has ended ({_reason(pod)}) and was deleted, to be created anew")
            except ApiError as error:
                refused = error.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
                self._report_once(f"cannot look after the worker pods: {error}")
                if refused:
                    self._report_once("  fix: python generate.py rbac | kubectl apply -f -")
                return not refused
        return True

    def _report_once(self, text: str) -> None:
        if text not in self.reported:
            self.reported.add(text)
            self.say(text)


def hosts_in(hostfile: Path) -> list[str]:
    """Return the hosts of the workers; a line is "HOST", "HOST slots=N" or "HOST:N", by the version of the operator."""
    try:
        lines = hostfile.read_text().split("\n")
    except OSError:
        return []
    return [host for line in lines if (host := re.split(r"[ :#]", line.strip())[0])]


def _over(pod: dict[str, Any]) -> bool:
    phase, deleted = pod.get("status", {}).get("phase"), pod.get("metadata", {}).get("deletionTimestamp")
    return phase in OVER and not deleted


def _reason(pod: dict[str, Any]) -> str:
    status = pod.get("status", {})
    return str(status.get("reason") or status.get("phase"))


def replacer(hostfile: str, say: Callable[[str], None]) -> Replacer:
    """Return what replaces this pod's workers; it does nothing without a token."""
    return Replacer(api_of(os.environ), Path(hostfile), say)
