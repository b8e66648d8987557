# SPDX-License-Identifier: Apache-2.0
"""The only user of the kubernetes client: its credentials and its connections, behind requests whose errors are ours.

A request is repeated only where that is safe: what never left this machine, what the server did not accept (429,
401 once with fresh credentials), and, for a call that says so, what may have been done already. Every request has a
limit; a call with all its repeats takes at most PATIENCE times as long, or CONTACT_SECONDS while no server answered.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import math
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import kubernetes.client
import kubernetes.client.rest
import kubernetes.config
import urllib3
import urllib3.exceptions as failures

from mpikit.errors import ClusterError, Conflict, Forbidden, Gone, NotFound, Silent, TooSlow, Unknown, Unreachable
from mpikit.kube.answers import Object, Strange, parse
from mpikit.kube.connections import Broken, explained, incomplete, reason, stranger
from mpikit.kube.deadlines import REQUEST_SECONDS, LimitedPool, SecureLimitedPool, Tries, cut_after
from mpikit.kube.kubeconfig import NAMESPACE_FILE, choose, default_kubeconfig, has_file, own_errors
from mpikit.kube.proxies import proxy_for, use
from mpikit.kube.rejections import by_webhook
from mpikit.text.redaction import keep_secret, redact

logger = logging.getLogger(__name__)

CHUNK_BYTES = 65536
MOST_BODY_BYTES = 64 << 20  # a page is 200 objects: 2 MB of pods, 20 MB of objects of 100 KiB
LEAST_BYTES = 1024  # in the time of one request, of an answer that has an end
VERSION = "/version"  # which every user may read
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
    """Try again after a failure; off for what the caller does not need."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of the server."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    value: Object | None = None
    """The object in it, if it is JSON."""


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
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self.request_seconds, self.clock, self.sleep, self.chance = request_seconds, clock, sleep, chance
        self.tell = tell
        self.num_requests = 0
        self.known = False
        """Whether an API server has answered. One that never did may not exist, and gets less time."""
        self.until = math.inf
        """Moment of the clock after which no call begins another try, such as the end of a wait."""
        self._login_seconds = 0.0
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
        """Return the answer to a call, which is repeated where that is safe. Raises errors of mpikit.errors."""
        tries, fresh = self._tries(), False
        problem: ClusterError
        while True:
            asked: float | None = None
            try:
                answer = self._answer(call, tries)
            except Broken as broken:
                problem = self._unreachable(call, broken)
                again = not broken.hopeless and (call.repeatable or not broken.sent)
            else:
                if answer.status < 400:
                    return answer
                if answer.status == 401 and not fresh:
                    fresh = True
                    self._log_in()
                    continue
                problem, again, asked = self._refused(call, answer)
            pause = tries.pause(self.known, asked, self.chance())
            if not (again and call.patient) or pause is None:
                raise problem
            if left := tries.notice(self.known, pause):
                self.tell(f"{problem.message}; retrying for {left:.0f} s (Ctrl-C stops)")
            self.sleep(pause)

    def _tries(self) -> Tries:
        return Tries(self._now, self.request_seconds, self._now() + self.until - self.clock())

    def _now(self) -> float:
        """The clock without the time that login plug-ins took: a browser is not the server's delay."""
        return self.clock() - self._login_seconds

    def json(self, call: Call) -> Object:
        """Return the object in the answer to a call."""
        value = self.request(call).value
        if value is None or not self.known or ("kind" not in value and call.path.startswith(OBJECT_PATHS)):
            raise self._unreachable(call, stranger(self.server, f"{call.path} does not answer with an object"))
        return value

    @contextlib.contextmanager
    def stream(
        self, call: Call, idle_seconds: float, until: float = math.inf, *, steady: bool = False
    ) -> Iterator[Iterator[bytes]]:
        """The answer in pieces as they come; Unreachable when it breaks off or nothing comes for `idle_seconds`.

        It ends at the moment `until` of the clock even if more would come. With `steady`, TooSlow when fewer than
        LEAST_BYTES come in the time of one request.
        """
        tries = self._tries()
        try:
            response = self._open(call, tries, idle_seconds)
            if response.status == 401:
                response.close()
                self._log_in()
                response = self._open(call, tries, idle_seconds)
            if response.status >= 400:
                raise self._refused(call, self._read(response, self.clock() + tries.limit))[0]
        except Broken as broken:
            raise self._unreachable(call, broken) from broken
        try:
            pieces = self._pieces(call, response, until, idle_seconds + 1 if steady else math.inf)
            yield self._steady(call, pieces) if steady else pieces
        finally:
            response.close()

    def _pieces(
        self, call: Call, response: urllib3.BaseHTTPResponse, until: float, piece_seconds: float
    ) -> Iterator[bytes]:
        """Each piece; one that takes `piece_seconds` is cut, such as the size of a chunk that comes byte by byte."""
        sock = getattr(response, "sock", None)
        over = threading.Event()
        try:
            with cut_after(until - self.clock(), sock):
                while self.clock() < until:
                    with cut_after(piece_seconds, sock) as over:
                        piece = response.read1(CHUNK_BYTES)
                    if over.is_set():
                        raise _too_slow(call)
                    if not piece:
                        return
                    yield piece
        except failures.ReadTimeoutError as error:
            raise Silent(f"{call.path}: nothing came over the stream") from error
        except (failures.HTTPError, OSError) as error:
            if over.is_set():
                raise _too_slow(call) from error
            if self.clock() >= until:
                return
            raise Unreachable(f"{call.path}: the stream broke off ({reason(error)})") from error

    def _steady(self, call: Call, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces; TooSlow when they drip. Time in which the reader pauses does not count."""
        waited, size, began = 0.0, 0, self.clock()
        for piece in pieces:
            waited, size = waited + self.clock() - began, size + len(piece)
            if waited >= self.request_seconds:
                if size < LEAST_BYTES:
                    raise _too_slow(call)
                waited, size = 0.0, 0
            yield piece
            began = self.clock()

    def _answer(self, call: Call, tries: Tries) -> Answer:
        """Make one try."""
        limit = tries.limit
        answer = self._read(self._open(call, tries, limit), self.clock() + limit)
        self.known = (
            self.known or answer.status in (401, 429) or not {"kind", "gitVersion"}.isdisjoint(answer.value or ())
        )
        if 400 <= answer.status < 500 and not self.known and call.path != VERSION:
            self._identify()
        return answer

    def _identify(self) -> None:
        """Raise Unreachable if this is not an API server. One without an API group answers 404 in plain text, too."""
        call = Call("GET", VERSION, patient=False)
        try:
            self.json(call)
        except (Forbidden, Unreachable) as error:
            if isinstance(error, Unreachable):
                raise
        except ClusterError as error:
            broken = stranger(self.server, f"{VERSION} answers {error.message}")
            raise self._unreachable(call, broken) from error

    def _read(self, response: urllib3.BaseHTTPResponse, deadline: float) -> Answer:
        """Read an answer to its end, and parse the object in it."""
        answer = self._whole(response, deadline)
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return answer
        try:
            return replace(answer, value=parse(answer.data))
        except ValueError as error:
            if answer.status >= 400:
                return answer
            broken = stranger(self.server, f"its answer cannot be used ({error})")
            broken.hopeless = isinstance(error, Strange)
            raise broken from error

    def _open(self, call: Call, tries: Tries, idle_seconds: float) -> urllib3.BaseHTTPResponse:
        """Send a call and wait for the head of its answer."""
        self.num_requests += 1
        query = f"?{urlencode(call.query)}" if call.query else ""
        headers = {"Accept": call.accept, "User-Agent": "mpikit", **self._authorization()}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        began, limit = self.clock(), tries.limit
        try:
            response = self._pool.request(
                call.method,
                f"{self.server}{call.path}{query}",
                body=None if call.body is None else json.dumps(call.body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=tries.connect_limit(self.known), read=max(limit, idle_seconds)),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (failures.HTTPError, OSError, ValueError) as error:
            logger.debug("%s %s%s: %s", call.method, call.path, query, reason(error))
            raise explained(error, self.server, self._proxy) from error
        logger.debug("%s %s%s: %s in %.2f s", call.method, call.path, query, response.status, self.clock() - began)
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        strange = ("text/html", "application/json") if call.accept == "*/*" else ("text/html",)  # a log is text/plain
        unlike = kind in (strange if response.status < 400 else ("text/html",))
        if response.status // 100 == 3 or (unlike and response.status < 500 and response.status != 401):
            response.close()
            raise stranger(self.server, f"{call.path} answers HTTP {response.status}, {kind or 'without a type'}")
        self._set_clock(response.headers.get("Date"))
        return response

    def _whole(self, response: urllib3.BaseHTTPResponse, deadline: float) -> Answer:
        """Read an answer to its end. Raises Broken if it ends early or not by the deadline."""
        pieces, size = [], 0
        try:
            with cut_after(deadline - self.clock(), getattr(response, "sock", None)) as over:
                while piece := response.read1(CHUNK_BYTES):
                    pieces.append(piece)
                    size += len(piece)
                    if size > MOST_BODY_BYTES:
                        too_large = f"the answer is larger than {MOST_BODY_BYTES >> 20} MiB"
                        raise incomplete(self.server, too_large, hopeless=True)
                    if self.clock() > deadline:
                        raise incomplete(self.server, "the answer does not end")
            if over.is_set():  # without a length, a cut text looks complete
                raise incomplete(self.server, "the answer does not end")
        except (failures.HTTPError, OSError) as error:
            raise incomplete(self.server, reason(error)) from error
        finally:
            response.release_conn()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, b"".join(pieces))

    def _set_clock(self, date: str | None) -> None:
        with contextlib.suppress(TypeError, ValueError):
            ahead = email.utils.parsedate_to_datetime(date or "") - datetime.now(timezone.utc)
            self._server_ahead = ahead if abs(ahead) > timedelta(seconds=5) else timedelta()

    def _unreachable(self, call: Call, broken: Broken) -> Unreachable:
        if not call.repeatable and broken.sent:
            return Unknown(f"{call.method} {call.path}: {broken.message}; the server may or may not have done it")
        return Unreachable(broken.message, broken.fix)

    def _refused(self, call: Call, answer: Answer) -> tuple[ClusterError, bool, float | None]:
        """Explain a status of 400 or more: the error, whether to try again, and the pause that the server asks for."""
        status_object = _status_of(answer)
        message = redact(str(status_object.get("message") or f"HTTP {answer.status}"))
        asked = answer.headers.get("retry-after", "")
        wait = float(asked) + self.chance() if asked.isdigit() else None
        match answer.status:
            case 401:
                fix = "log in again until kubectl get pods works"
                return Forbidden(f"{self.server} does not accept your credentials ({message})", fix), False, None
            case status if status == 403 or by_webhook(message):
                return Forbidden(message), False, None
            case 404:
                missing = NotFound(message)
                missing.kind = str((status_object.get("details") or {}).get("kind") or "")
                missing.no_api = not status_object
                return missing, False, None
            case 409:
                return Conflict(message), False, None
            case 410:
                return Gone(message), False, None
            case 429:
                return Unreachable(f"{self.server} is too busy ({message})", "try again later"), True, wait
            case status if status >= 500:
                if not call.repeatable:
                    doubt = f"{call.method} {call.path}: {message}; the server may or may not have done it"
                    return Unknown(doubt), False, None
                return Unreachable(f"{self.server} answers HTTP {status}: {message}", "try again later"), True, wait
        return ClusterError(message), False, None

    @contextlib.contextmanager
    def _logging_in(self, where: str) -> Iterator[None]:
        """Errors of kubeconfig and plug-ins become ours; the time that they take is not the server's."""
        began = self.clock()
        try:
            with own_errors(where):
                yield
        finally:
            self._login_seconds += self.clock() - began

    def _authorization(self) -> dict[str, str]:
        """The headers of the credentials; the client renews those that run out."""
        with self._logging_in("credentials"):
            settings: dict[str, Any] = self._configuration.auth_settings()  # type: ignore[assignment]  # a TypedDict
            found = {one["key"]: one["value"] for one in settings.values()}
        headers = {name: value for name, value in found.items() if value}
        keep_secret(*headers.values(), *(value.partition(" ")[2] for value in headers.values()))
        return headers

    def _log_in(self) -> None:
        """Read the credentials, as kubectl would, and open a pool of connections with them."""
        configuration = kubernetes.client.Configuration()
        named = self._kubeconfig or default_kubeconfig()
        proxy_url = ""
        with self._logging_in(named):
            if has_file(named):
                chosen = choose(named, self._context)
                kubernetes.config.load_kube_config_from_dict(
                    chosen.config, chosen.context, configuration, persist_config=False
                )
                self.namespace, proxy_url = chosen.namespace, chosen.proxy_url
            elif not self._kubeconfig and os.environ.get("KUBERNETES_SERVICE_HOST"):
                kubernetes.config.load_incluster_config(client_configuration=configuration)
                self.namespace = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
            else:
                raise Unreachable(f"kubeconfig {named} does not exist", "--kubeconfig FILE, or set KUBECONFIG=FILE")
            if not configuration.verify_ssl:
                warnings.filterwarnings("ignore", category=failures.InsecureRequestWarning)
            self._proxy = proxy_for(configuration.host, proxy_url)
            use(self._proxy, configuration)
            self._configuration = configuration
            self._pool = kubernetes.client.rest.RESTClientObject(configuration).pool_manager
            if self._pool.pool_classes_by_scheme["http"] is urllib3.HTTPConnectionPool:  # SOCKS has its own
                self._pool.pool_classes_by_scheme = {"http": LimitedPool, "https": SecureLimitedPool}
        keep_secret(configuration.password)


def _too_slow(call: Call) -> TooSlow:
    return TooSlow(f"{call.path}: the answer comes too slowly to be read to its end", "try again later")


def _status_of(answer: Answer) -> Object:
    """Return the Status object of an error; empty if the answer is not from an API server."""
    found = answer.value or {}
    return found if found.get("kind") == "Status" else {}
