# SPDX-License-Identifier: Apache-2.0
"""The launcher replaces ended workers: the API server is a small HTTPS server that keeps pods as Kubernetes does."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted import certificates
from vit.supervise.workers import Replacer, api_of

PREFIX = "/api/v1/namespaces/lab/pods/"


@dataclass
class Server:
    """Pods by name; `refuse` is the code that each request gets instead."""

    account: Path
    port: int = 0
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse: int | None = None
    newer: bool = False
    """Whether each pod is replaced between being read and being deleted."""

    def pod(self, name: str, phase: str, reason: str = "", **metadata: str) -> None:
        metadata = {"uid": f"uid-{name}", **metadata}
        self.pods[name] = {"metadata": metadata, "status": {"phase": phase, "reason": reason}}

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = path.removeprefix(PREFIX)
        if token != "Bearer secret":
            return 401, {}
        if self.refuse:
            return self.refuse, {}
        if name not in self.pods:
            return 404, {}
        if method == "GET":
            return 200, self.pods[name]
        if self.newer or body["preconditions"]["uid"] != self.pods[name]["metadata"]["uid"]:
            return 409, {}
        return 200, self.pods.pop(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = certificates.make(tmp_path)
    (tmp_path / "ca.crt").write_bytes(made.authority.read_bytes())
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("lab")
    found = Server(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            code, value = found.answer(self.command, self.path, self.headers["Authorization"], body)
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    found.port = listening.server_port
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield found
    listening.shutdown()
    listening.server_close()


def replacer_of(server: Server, said: list[str]) -> Replacer:
    hostfile = server.account / "hostfile"
    hostfile.write_text("".join(f"job-worker-{number}.job.lab.svc slots=8\n" for number in range(4)))
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    return Replacer(api_of(environment, server.account), hostfile, said.append)


def test_only_workers_that_have_ended_are_deleted(server: Server) -> None:
    server.pod("job-worker-0", "Running")
    server.pod("job-worker-1", "Failed", "Evicted")
    server.pod("job-worker-2", "Failed", deletionTimestamp="2026-11-27T00:00:00Z")
    server.pod("other-worker-1", "Failed")
    said: list[str] = []
    assert replacer_of(server, said).replace()
    assert sorted(server.pods) == ["job-worker-0", "job-worker-2", "other-worker-1"]
    assert said == ["worker pod job-worker-1 has ended (Evicted) and was deleted, to be created anew"]


def test_a_pod_that_was_replaced_in_the_meantime_stays(server: Server) -> None:
    server.pod("job-worker-3", "Succeeded")
    server.newer = True
    said: list[str] = []
    assert replacer_of(server, said).replace()
    assert "job-worker-3" in server.pods


@pytest.mark.parametrize(("code", "again"), [(403, False), (401, False), (500, True), (429, True)])
def test_a_refusal_is_reported_once_and_only_missing_rights_are_final(server: Server, code: int, again: bool) -> None:
    server.refuse = code
    said: list[str] = []
    replacer = replacer_of(server, said)
    assert [replacer.replace(), replacer.replace()] == [again, again]
    assert said[0].startswith(f"cannot look after the worker pods: the API server answers with {code} ")
    assert len(said) == (1 if again else 2)
    assert again or said[1] == "  fix: python generate.py rbac | kubectl apply -f -"


def test_a_server_that_does_not_answer_is_tried_again(server: Server) -> None:
    said: list[str] = []
    replacer = replacer_of(server, said)
    replacer.api = api_of({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}, server.account)
    assert replacer.replace()
    assert "the API server does not answer" in said[0]


def test_without_a_token_nothing_is_done(tmp_path: Path) -> None:
    assert api_of({"KUBERNETES_SERVICE_HOST": "127.0.0.1"}, tmp_path) is None
    Replacer(None, tmp_path / "none", print).start()


def test_workers_are_looked_after_while_a_restart_waits(server: Server) -> None:
    server.pod("job-worker-1", "Failed")
    said: list[str] = []
    deleted = threading.Event()
    replacer = replacer_of(server, said)
    replacer.say = lambda text: (said.append(text), deleted.set())[0]
    replacer.start()
    assert deleted.wait(30)
    replacer.stop()
    assert "job-worker-1" not in server.pods
