# SPDX-License-Identifier: Apache-2.0
"""The scripted API server: threads on 127.0.0.1, HTTP or TLS, real sockets, and a plan of what goes wrong.

It stands in for a real API server because that one cannot be made to break off at a chosen byte. What it answers when
nothing goes wrong is what the real one answered (facts of the test cluster).
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import random
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.support.scripted.certificates import Certificates
from tests.support.scripted.faults import Plan
from tests.support.scripted.operator import Operator
from tests.support.scripted.store import Object, Refusal, Store, merged

KINDS = {"mpijobs": "MPIJob", "configmaps": "ConfigMap", "pods": "Pod", "events": "Event", "jobs": "Job"}
KINDS |= {"resourcequotas": "ResourceQuota", "services": "Service"}
WATCH_SCALE = 0.002  # real seconds of a watch for each of its own
HTML = b"<html><body>Please log in. You sent: %s</body></html>"
LINE = b"2026-11-25T03:00:%02d.000000000Z step %d loss 6.9\n"


@dataclass(frozen=True)
class Request:
    """One request that the server saw."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    at: float
    """By the driver's clock."""


@dataclass
class Scripted:
    """A server. `clock` and `pass_time` belong to the driver's time, in which waiting costs nothing."""

    plan: Plan = field(default_factory=lambda: Plan(0))
    certificates: Certificates | None = None
    tokens: list[str] = field(default_factory=lambda: ["first-token-of-this-server"])
    """The last one is valid."""
    renew: Callable[[str], object] = lambda token: None
    """Writes a new token to where the client reads it."""
    keep_alive: bool = False
    hang_seconds: float = 0.4
    orphans: bool = False
    clock: Callable[[], float] = time.monotonic
    pass_time: Callable[[float], object] = lambda seconds: None
    answer: Callable[[Request, Handler], bool] = lambda request, handler: False
    """A test's own answer; false to go on as usual."""

    def __post_init__(self) -> None:
        self.store = Store()
        self.operator = Operator(self.store, self.plan.seed, self.orphans)
        self.requests: list[Request] = []
        self.num_connections = 0
        self.num_late = 0
        self.closed = False
        self.opens_at = 0.0
        self.holder = socket.socket()  # keeps the port while nothing listens on it
        self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.holder.bind(("127.0.0.1", 0))
        self.port = self.holder.getsockname()[1]
        self.listener: socket.socket | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"{'https' if self.certificates else 'http'}://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self, seconds: float = 1e9) -> None:
        """Refuse connections for so long by the driver's clock."""
        with self.store.lock:
            listener, self.listener, self.opens_at = self.listener, None, self.clock() + seconds
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def time_passed(self) -> None:
        """Open again if it is time."""
        with self.store.lock:
            if self.listener is None and not self.closed and self.clock() >= self.opens_at:
                self.open()

    def close(self) -> None:
        self.closed = True
        self.shut()
        self.holder.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            self.num_connections += 1
            bad = self.plan.draw_certificate(self.num_connections)
            threading.Thread(target=self._serve, args=(connection, bad), daemon=True).start()

    def _serve(self, connection: socket.socket, bad: bool) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(20)
        with contextlib.suppress(OSError, ValueError):
            if self.certificates:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificates.stranger if bad else self.certificates.server)
                connection = context.wrap_socket(connection, server_side=True)
            Handler(connection, ("127.0.0.1", 0), self)  # type: ignore[arg-type]  # it asks of a server what we have
        with contextlib.suppress(OSError):
            connection.close()

    @contextlib.contextmanager
    def acting_late(self) -> Iterator[None]:
        """Act once the client has given up."""
        with self.store.lock:
            self.num_late += 1
        try:
            time.sleep(self.hang_seconds * 1.5)
            yield
        finally:
            with self.store.lock:
                self.num_late -= 1

    def settle(self) -> None:
        """Return once nothing is still to be acted on."""
        while self.num_late:
            time.sleep(0.01)

    def next_number(self, request: Request) -> int:
        with self.store.lock:
            self.requests.append(request)
            self.operator.tick()
            return len(self.requests)

    def echo(self, number: int, token: str) -> str:
        """What a hostile server says: the credentials that it was sent."""
        return random.Random(f"{self.plan.seed}/echo/{number}").choice(
            (
                f"you sent Authorization: Bearer {token}",
                f"token {token} is not liked",
                f"basic {base64.b64encode(token.encode()).decode()}",
                "something else broke",
            )
        )


class Broke(Exception):
    """The connection ends here."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Scripted  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (Broke, OSError, ValueError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.go()

    do_POST = do_PATCH = do_DELETE = do_GET

    @property
    def sent(self) -> str:
        """The token of this request."""
        return str(self.headers.get("Authorization", "")).partition(" ")[2]

    @property
    def echo(self) -> str:
        return self.server.echo(self.number, self.sent)

    def go(self) -> None:
        """Answer a request, or do what the plan says instead."""
        server, parts = self.server, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(parse_qsl(parts.query))
        request = Request(self.command, parts.path, query, self.headers, server.clock())
        number = server.next_number(request)
        self.number, self.close_connection = number, not server.keep_alive
        if server.answer(request, self):
            return
        watching = query.get("watch") == "true"
        reading = watching or "continue" in query
        fault = server.plan.draw(number, watching=watching, reading=reading)
        if self.refused_before(fault):
            return
        if self.sent != server.tokens[-1]:
            self.status(401, "Unauthorized", "Unauthorized: " + self.echo)
        elif watching:
            self.watch(parts.path, query, fault)
        else:
            with server.acting_late() if fault == "late" else contextlib.nullcontext():
                code, body, kind = self.acted(parts.path, query, raw)
            self.answered(fault, code, body, kind)

    def refused_before(self, fault: str) -> bool:
        """Faults in which the request is not acted on."""
        server, echo = self.server, self.echo
        match fault:
            case "reset":
                self.reset()
            case "hang":
                time.sleep(server.hang_seconds)
                raise Broke
            case "429":
                self.status(429, "TooManyRequests", f"too many requests: {echo}")
            case "429-after":
                self.status(429, "TooManyRequests", f"too many requests: {echo}", {"Retry-After": "1"})
            case "500" | "503":
                self.status(int(fault), "InternalError", f"etcdserver: no leader: {echo}")
            case "503-after":
                self.status(503, "ServiceUnavailable", f"starting up: {echo}", {"Retry-After": "2"})
            case "expired":
                server.tokens.append(f"token-{random.Random(f'{server.plan.seed}/{self.number}').getrandbits(80):x}")
                server.renew(server.tokens[-1])
                self.status(401, "Unauthorized", f"Unauthorized: {echo}")
            case "html":
                self.send(200, HTML % self.sent.encode(), {"Content-Type": "text/html"})
            case "garbage":
                self.send(200, json.dumps({"error": echo}).encode())
            case "not-http":
                self.wfile.write(f"SSH-2.0 {echo}\r\n\r\n".encode())
                raise Broke
            case "refused":
                server.shut(random.Random(f"{server.plan.seed}/{self.number}").choice((0.3, 2.0, 20.0)))
                self.reset()
            case "gone":
                self.status(410, "Expired", f"too old resource version: {echo}")
            case _:
                return False
        return True

    def acted(self, path: str, query: dict[str, str], raw: bytes) -> tuple[int, bytes, str]:
        """What the request comes to: code, body and its type."""
        try:
            code, found = self.done(path, query, json.loads(raw) if raw else {})
        except Refusal as refusal:
            return refusal.code, json.dumps(refusal.body).encode(), "application/json"
        if isinstance(found, bytes):
            return code, found, "text/plain"
        return code, json.dumps(found).encode(), "application/json"

    def done(self, path: str, query: dict[str, str], body: Object) -> tuple[int, Object | bytes]:
        store = self.server.store
        words = path.split("/namespaces/")[-1].split("/")
        if "/namespaces/" not in path or len(words) < 2 or words[1] not in KINDS:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        space, plural, *rest = words
        name = rest[0] if rest else ""
        if rest[1:] == ["log"]:
            store.get("pods", space, name)
            return 200, b"".join(LINE % (n, n) for n in range(5))
        match self.command:
            case "GET":
                found = store.get(plural, space, name) if name else store.list(KINDS[plural], plural, space, query)
                return 200, found
            case "PATCH" if self.headers["Content-Type"] == "application/merge-patch+json" and "dryRun" not in query:
                return 200, store.put("MODIFIED", plural, merged(store.get(plural, space, name), body))
            case "PATCH":
                return store.apply(plural, space, name, body, query)
            case "POST":
                return 201, store.create(plural, space, body, query)
            case _:
                return 200, store.delete(plural, space, name, body)

    def answered(self, fault: str, code: int, body: bytes, kind: str) -> None:
        """Faults that come after the server has acted."""
        server, half = self.server, body[: len(body) // 2]
        headers = {"Content-Type": kind}
        match fault:
            case "reset-done":
                self.reset()
            case "half-length":
                self.head(code, {**headers, "Content-Length": str(len(body))})
                self.wfile.write(half)
                raise Broke
            case "half-chunked":
                self.head(code, {**headers, "Transfer-Encoding": "chunked"})
                self.chunk(half)
                raise Broke
            case "half-closed" if kind == "application/json":  # nobody can tell half a text from a whole one
                self.head(code, {**headers, "Connection": "close"})
                self.wfile.write(half)
                raise Broke
            case "500-done":
                self.status(500, "InternalError", f"etcdserver: request timed out: {self.echo}")
            case "html-done":
                self.send(200, HTML % self.sent.encode(), {"Content-Type": "text/html"})
            case "garbage-done":
                self.send(200, json.dumps({"error": self.echo}).encode())
            case "hang-done":
                time.sleep(server.hang_seconds)
                raise Broke
            case "drip":
                self.head(code, {**headers, "Content-Length": str(len(body))})
                self.drip(body)
            case "drip-head":
                self.drip(f"HTTP/1.1 {code} OK\r\nContent-Length: 0\r\nX-Long: {'x' * 4000}\r\n\r\n".encode())
            case _:
                self.send(code, body, headers)

    def drip(self, data: bytes) -> None:
        """A byte now and then, until the client has had enough."""
        until = time.monotonic() + 20 * self.server.hang_seconds
        for place in range(len(data)):
            self.wfile.write(data[place : place + 1])
            self.wfile.flush()
            time.sleep(self.server.hang_seconds / 20)
            if time.monotonic() > until:
                break
        raise Broke

    def watch(self, path: str, query: dict[str, str], fault: str) -> None:
        """Events since a version, until timeoutSeconds, scaled down; a moment passes whenever nothing happens."""
        server, chance = self.server, random.Random(f"{self.server.plan.seed}/watch/{self.number}")
        space, plural = path.split("/namespaces/")[-1].split("/")
        self.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        if fault == "gone-event" or int(query["resourceVersion"]) <= server.store.forgotten:
            told = Refusal(410, "Expired", f"too old resource version: {self.echo}")
            self.event("ERROR", told.body)
            self.chunk(b"")
            return
        seconds, since = int(query["timeoutSeconds"]), query["resourceVersion"]
        until = time.monotonic() + max(0.004, seconds * WATCH_SCALE)
        cut_after = chance.randint(0, 2)
        while True:
            for version, what, item in server.store.changes(plural, space, {**query, "resourceVersion": since}):
                if fault in ("cut-reset", "cut-clean") and cut_after == 0:
                    self.half_event(what, item, fault)
                self.event(what, item)
                since, cut_after = str(version), cut_after - 1
            if time.monotonic() >= until:
                break
            time.sleep(0.004)
            if select.select([self.connection], [], [], 0)[0]:  # the client has gone
                raise Broke
            server.operator.tick()
        server.pass_time(seconds)
        if fault == "idle-cut":
            self.reset()
        item = {"kind": KINDS[plural], "metadata": {"resourceVersion": str(server.store.version)}}
        if not list(server.store.changes(plural, space, {**query, "resourceVersion": since})):
            self.event("BOOKMARK", item)
        self.chunk(b"")

    def event(self, what: str, item: Object) -> None:
        self.chunk(json.dumps({"type": what, "object": item}).encode() + b"\n")

    def half_event(self, what: str, item: Object, fault: str) -> None:
        data = json.dumps({"type": what, "object": item}).encode()
        self.chunk(data[: len(data) // 2])
        if fault == "cut-reset":
            self.reset()
        self.chunk(b"")
        raise Broke

    def status(self, code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
        self.send(code, json.dumps({**body, "reason": reason}).encode(), headers)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.head(code, {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))})
        self.wfile.write(body)

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        if self.close_connection:
            headers = {"Connection": "close", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reset(self) -> None:
        """End the connection the hard way."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise Broke

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()


Answer = Callable[[Request, Handler], bool]
