# SPDX-License-Identifier: Apache-2.0
"""The only user of the kubernetes client: its credentials and its connections, behind requests whose errors are ours.

A request is repeated only where that is safe: what never left this machine, what the server refused to take up (429,
401 once with fresh credentials), and, for a call that says so, what may have been done already. Every request has a
limit; a call with all its repeats takes at most PATIENCE times as long.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import math
import os
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies

import kubernetes.client
import kubernetes.client.rest
import kubernetes.config
import urllib3
import urllib3.exceptions as failures

from mpikit.errors import ClusterError, Conflict, Forbidden, Gone, NotFound, Silent, Unknown, Unreachable
from mpikit.kube.answers import Object, Strange, parse
from mpikit.kube.deadlines import REQUEST_SECONDS, LimitedPool, SecureLimitedPool, cut_after
from mpikit.kube.kubeconfig import NAMESPACE_FILE, context_namespace, current_context, is_here, own_errors
from mpikit.text.redaction import keep_secret, redact

logger = logging.getLogger(__name__)


PATIENCE = 3  # times the limit of one request, for a call with all its repeats
CONNECT_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
CHUNK_BYTES = 65536
MOST_BODY_BYTES = 64 << 20  # a page is 200 objects: 2 MB of pods, 20 MB of objects of 100 KiB
OBJECT_PATHS = ("/api/", "/apis/")  # what is asked for here has a kind, unlike /version


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `repeatable`: doing it twice leaves the server as doing it once."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = "application/json"
    accept: str = "application/json"
    repeatable: bool = True
    patient: bool = True
    """Try again after a failure; not for what the caller can do without."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    value: Object | None = None
    """The object in it, if it is JSON."""


class _Broken(Exception):
    """No whole answer. `sent`: the server may have acted; `hopeless`: another try will end the same way."""

    def __init__(self, reason: str, *, sent: bool = True, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.sent, self.hopeless = sent, hopeless


class Cluster:
    """A connection to the API server that kubeconfig, or the pod that this runs in, names."""

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        request_seconds: float = REQUEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self.request_seconds, self.clock, self.sleep, self.chance = request_seconds, clock, sleep, chance
        self.num_requests = 0
        self._server_ahead = timedelta()
        self.namespace = "default"
        self._log_in()

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._configuration.host)

    def now(self) -> datetime:
        """The time by the server's clock, since its objects carry that one's times."""
        return datetime.now(timezone.utc) + self._server_ahead

    def request(self, call: Call) -> Answer:
        """The answer to a call, repeated where that is safe; errors of mpikit.errors otherwise."""
        deadline = self.clock() + PATIENCE * self.request_seconds
        pause, fresh = FIRST_PAUSE_SECONDS, False
        problem: ClusterError
        while True:
            wait: float | None = None
            try:
                answer = self._answer(call, deadline)
            except _Broken as broken:
                problem = self._unreachable(call, broken)
                again = not broken.hopeless and (call.repeatable or not broken.sent)
            else:
                if answer.status < 400:
                    return answer
                if answer.status == 401 and not fresh:
                    fresh = True
                    self._log_in()
                    continue
                problem, again, wait = self._refused(call, answer)
            if wait is None:
                wait, pause = pause * (0.5 + self.chance() / 2), min(2 * pause, LONGEST_PAUSE_SECONDS)
            if not (again and call.patient) or self.clock() + wait >= deadline:
                raise problem
            self.sleep(wait)

    def json(self, call: Call) -> Object:
        """The object that a call is answered with."""
        value = self.request(call).value
        if value is None or ("kind" not in value and call.path.startswith(OBJECT_PATHS)):
            if not call.repeatable:
                raise Unknown(f"{call.method} {call.path}: the answer is not an API server's; it may have been done")
            fix = "look at the server's address in kubeconfig, and for a proxy or a log-in page in between"
            raise Unreachable(f"{self.server} does not answer as an API server does", fix)
        return value

    @contextlib.contextmanager
    def stream(self, call: Call, idle_seconds: float, until: float = math.inf) -> Iterator[Iterator[bytes]]:
        """The answer in pieces as they come; Unreachable when it breaks off or nothing comes for `idle_seconds`.

        It ends at the moment `until` of the clock even if more would come.
        """
        deadline = self.clock() + PATIENCE * self.request_seconds
        try:
            response = self._open(call, self._limit(deadline), idle_seconds)
            if response.status == 401:
                response.close()
                self._log_in()
                response = self._open(call, self._limit(deadline), idle_seconds)
            if response.status >= 400:
                raise self._refused(call, self._read(response, deadline))[0]
        except _Broken as broken:
            raise self._unreachable(call, broken) from broken
        try:
            yield self._pieces(call, response, until)
        finally:
            response.close()

    def _pieces(self, call: Call, response: urllib3.BaseHTTPResponse, until: float) -> Iterator[bytes]:
        try:
            with cut_after(until - self.clock(), getattr(response, "sock", None)):
                while (piece := response.read1(CHUNK_BYTES)) and self.clock() < until:
                    yield piece
        except failures.ReadTimeoutError as error:
            raise Silent(f"{call.path}: nothing came over the stream") from error
        except (failures.HTTPError, OSError) as error:
            if self.clock() >= until:
                return
            raise Unreachable(f"{call.path}: the stream broke off ({_reason(error)})") from error

    def _limit(self, deadline: float) -> float:
        """Seconds for the next try, so that it ends before the deadline even if the answer drips in."""
        return max(0.05, min(self.request_seconds, (deadline - self.clock()) / 2))

    def _answer(self, call: Call, deadline: float) -> Answer:
        """One try."""
        limit = self._limit(deadline)
        return self._read(self._open(call, limit, limit), self.clock() + limit)

    def _read(self, response: urllib3.BaseHTTPResponse, deadline: float) -> Answer:
        """All of an answer, with the object in it."""
        answer = self._whole(response, deadline)
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return answer
        try:
            return replace(answer, value=parse(answer.data))
        except ValueError as error:
            if answer.status >= 400:
                return answer
            hopeless = isinstance(error, Strange)
            raise _Broken(f"the answer is not an API server's: {error}", hopeless=hopeless) from error

    def _open(self, call: Call, limit: float, idle_seconds: float) -> urllib3.BaseHTTPResponse:
        """Send a call and wait for the head of its answer."""
        self.num_requests += 1
        query = f"?{urlencode(call.query)}" if call.query else ""
        headers = {"Accept": call.accept, "User-Agent": "mpikit", **self._authorization()}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        began = self.clock()
        try:
            response = self._pool.request(
                call.method,
                f"{self.server}{call.path}{query}",
                body=None if call.body is None else json.dumps(call.body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, limit), read=max(limit, idle_seconds)),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (failures.HTTPError, OSError, ValueError) as error:
            logger.debug("%s %s%s: %s", call.method, call.path, query, _reason(error))
            raise _broken(error) from error
        logger.debug("%s %s%s: %s in %.2f s", call.method, call.path, query, response.status, self.clock() - began)
        strange = ("text/html", "application/json") if call.accept == "*/*" else ("text/html",)  # a log is text/plain
        if response.status < 400 and response.headers.get("Content-Type", "").startswith(strange):
            response.close()
            raise _Broken("what answers is not an API server", hopeless=True)
        self._set_clock(response.headers.get("Date"))
        return response

    def _whole(self, response: urllib3.BaseHTTPResponse, deadline: float) -> Answer:
        """All of an answer; broken when it ends early, or has not ended by the deadline."""
        pieces, size = [], 0
        try:
            with cut_after(deadline - self.clock(), getattr(response, "sock", None)) as over:
                while piece := response.read1(CHUNK_BYTES):
                    pieces.append(piece)
                    size += len(piece)
                    if size > MOST_BODY_BYTES:
                        raise _Broken(f"the answer is larger than {MOST_BODY_BYTES >> 20} MiB", hopeless=True)
                    if self.clock() > deadline:
                        raise _Broken("the answer does not end")
            if over.is_set():  # half a text looks whole where the connection's end is the text's
                raise _Broken("the answer does not end")
        except (failures.HTTPError, OSError) as error:
            raise _Broken(_reason(error)) from error
        finally:
            response.release_conn()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, b"".join(pieces))

    def _set_clock(self, date: str | None) -> None:
        with contextlib.suppress(TypeError, ValueError):
            ahead = email.utils.parsedate_to_datetime(date or "") - datetime.now(timezone.utc)
            self._server_ahead = ahead if abs(ahead) > timedelta(seconds=5) else timedelta()

    def _unreachable(self, call: Call, broken: _Broken) -> Unreachable:
        reason = redact(str(broken))
        if not call.repeatable and broken.sent:
            return Unknown(f"{call.method} {call.path}: {reason}; whether it was done is not known")
        fix = "kubectl cluster-info; look at --context, the network, VPN or proxy"
        if broken.hopeless:
            fix = "correct the cluster's entry in kubeconfig: server, certificate-authority, or the proxy in between"
        return Unreachable(f"the API server {self.server} is out of reach: {reason}", fix)

    def _refused(self, call: Call, answer: Answer) -> tuple[ClusterError, bool, float | None]:
        """What a status of 400 or more means: the error, whether to try again, and the pause the server asks for."""
        told = _status_of(answer)
        message = redact(str(told.get("message") or f"HTTP {answer.status}"))
        asked = answer.headers.get("retry-after", "")
        wait = float(asked) + self.chance() if asked.isdigit() else None
        match answer.status:
            case 401:
                fix = "log in again; kubectl get pods must work first"
                return (
                    Forbidden(f"{self.server} does not accept your credentials ({message})", fix),
                    False,
                    None,
                )
            case 403:
                return Forbidden(message), False, None
            case 404:
                missing = NotFound(message)
                missing.kind, missing.no_api = str((told.get("details") or {}).get("kind") or ""), not told
                return missing, False, None
            case 409:
                return Conflict(message), False, None
            case 410:
                return Gone(message), False, None
            case 429:
                return Unreachable(f"{self.server} is too busy ({message})", "try again later"), True, wait
            case status if status >= 500:
                if not call.repeatable:
                    return (
                        Unknown(f"{call.method} {call.path}: {message}; whether it was done is not known"),
                        False,
                        None,
                    )
                return Unreachable(f"{self.server} fails: HTTP {status}: {message}", "try again later"), True, wait
        return ClusterError(message), False, None

    def _authorization(self) -> dict[str, str]:
        """The headers of the credentials; the client renews those that run out."""
        with own_errors("credentials"):
            settings: dict[str, Any] = self._configuration.auth_settings()  # type: ignore[assignment]  # a TypedDict
            found = {one["key"]: one["value"] for one in settings.values()}
        headers = {name: value for name, value in found.items() if value}
        keep_secret(*headers.values(), *(value.partition(" ")[2] for value in headers.values()))
        return headers

    def _log_in(self) -> None:
        """Read the credentials, as kubectl would, and open a pool of connections with them."""
        configuration = kubernetes.client.Configuration()
        named = self._kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
        with own_errors(named):
            if any(Path(path).is_file() for path in named.split(os.pathsep) if path):
                context = self._context or current_context(named)
                kubernetes.config.load_kube_config(
                    named, context=context, client_configuration=configuration, persist_config=False
                )
                self.namespace = context_namespace(named, context)
            elif not self._kubeconfig and os.environ.get("KUBERNETES_SERVICE_HOST"):
                kubernetes.config.load_incluster_config(client_configuration=configuration)
                self.namespace = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
            else:
                fix = "--kubeconfig FILE, or set KUBECONFIG as for kubectl"
                raise Unreachable(f"no kubeconfig: {named} is not there", fix)
            if not configuration.verify_ssl:
                warnings.filterwarnings("ignore", category=failures.InsecureRequestWarning)
            if configuration.proxy in getproxies().values() and is_here(configuration.host):
                configuration.proxy = None
            self._configuration = configuration
            self._pool = kubernetes.client.rest.RESTClientObject(configuration).pool_manager
            if self._pool.pool_classes_by_scheme["http"] is urllib3.HTTPConnectionPool:  # SOCKS has its own
                self._pool.pool_classes_by_scheme = {"http": LimitedPool, "https": SecureLimitedPool}
        keep_secret(configuration.password)


def _broken(error: Exception) -> _Broken:
    """What a failed try was: whether anything was sent, and whether another try can help."""
    reason, sent, hopeless = _reason(error), True, False
    if isinstance(error, failures.ProxyError):
        sent = False
    if isinstance(error, (failures.NewConnectionError, failures.ConnectTimeoutError, failures.NameResolutionError)):
        sent = False
    if isinstance(error, failures.SSLError):
        sent, hopeless = False, "CERTIFICATE" in reason.upper() or "WRONG_VERSION" in reason.upper()
    if isinstance(error, (failures.LocationValueError, failures.URLSchemeUnknown)):
        sent, hopeless = False, True
    return _Broken(reason, sent=sent, hopeless=hopeless)


def _reason(error: BaseException) -> str:
    """The innermost words of a failed connection: the libraries wrap them three times."""
    inner: BaseException = error
    while isinstance(inner.args[-1] if inner.args else None, BaseException):
        inner = inner.args[-1]
    if isinstance(error, failures.TimeoutError):
        return "no answer in time"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = re.sub(r"^_?\w+\(host=[^)]*\): ", "", str(inner).rpartition(">: ")[2])
    text = redact(text or type(inner).__name__)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _status_of(answer: Answer) -> Object:
    """The Status object of a refusal; empty if something else than an API server speaks."""
    found = answer.value or {}
    return found if found.get("kind") == "Status" else {}
