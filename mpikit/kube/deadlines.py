# SPDX-License-Identifier: Apache-2.0
"""Limit the time of the tries of one call, of a name lookup, and of a whole answer."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError

REQUEST_SECONDS = 15.0
PATIENCE = 3  # times the limit of one request, for a call with all its repeats
CONNECT_SECONDS = 5.0
CONTACT_SECONDS = 5.0  # of connecting to a server that never answered: its address may be wrong
NOTICE_SECONDS = 2.0  # then the user reads that the command is still trying
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
LONGEST_CONTACT_PAUSE_SECONDS = 1.0


class Tries:
    """The time of one call with all its repeats.

    `clock` leaves out what login plug-ins take. `until` ends the repeats; a try that has begun may take a request more.
    """

    def __init__(self, clock: Callable[[], float], request_seconds: float, until: float = math.inf) -> None:
        self.clock, self.request_seconds, self.until = clock, request_seconds, until
        self.began = clock()
        self.deadline = min(self.began + PATIENCE * request_seconds, until + request_seconds)
        self.contact_end = min(self.began + CONTACT_SECONDS, self.deadline)
        self.next_pause = FIRST_PAUSE_SECONDS
        self.noticed = False

    @property
    def limit(self) -> float:
        """Seconds for the next try, so that it ends before the deadline even if the answer comes slowly."""
        return max(0.05, min(self.request_seconds, (self.deadline - self.clock()) / 2))

    def connect_limit(self, known: bool) -> float:
        """Return the seconds for the next connection; an unknown server gets what is left of its time."""
        if known:
            return min(CONNECT_SECONDS, self.limit)
        end = self.contact_end if self.noticed else self.began + NOTICE_SECONDS
        return max(0.05, min(end - self.clock(), self.limit))

    def pause(self, known: bool, asked: float | None, chance: float) -> float | None:
        """Return the seconds until the next try, or None for no other try. `asked` is what the server asks for."""
        if asked is None:
            asked = self.next_pause * (0.5 + chance / 2)
            longest = LONGEST_PAUSE_SECONDS if known else LONGEST_CONTACT_PAUSE_SECONDS
            self.next_pause = min(2 * self.next_pause, longest)
        end = min(self.until, self.deadline if known else self.contact_end)
        return asked if self.clock() + asked < end else None

    def notice(self, known: bool, pause: float) -> float | None:
        """Return the seconds that a server that never answered has left, once, when it is time to announce them."""
        spent = self.clock() - self.began
        if known or self.noticed or spent + pause < NOTICE_SECONDS:
            return None
        self.noticed = True
        return self.contact_end - self.clock()


class _Lookup(threading.Thread):
    """One name lookup. getaddrinfo cannot be interrupted, so a thread waits for it."""

    running: dict[tuple[str, int], _Lookup] = {}  # one for each name: a repeat waits for the same lookup
    lock = threading.Lock()

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self.place = host, port
        self.addresses: list[str] = []
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(*self.place, type=socket.SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        except OSError as error:
            self.error = error
        except UnicodeError as error:  # a label that is too long
            self.error = socket.gaierror(socket.EAI_NONAME, str(error))
        _Lookup.running.pop(self.place, None)


def addresses_of(host: str, port: int, seconds: float) -> list[str]:
    """Return the addresses of a host. Raises TimeoutError, or what getaddrinfo raises."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.strip("[]"))
        return [host]
    with _Lookup.lock:
        lookup = _Lookup.running.get((host, port))
        if lookup is None:
            lookup = _Lookup.running[host, port] = _Lookup(host, port)
            lookup.start()
    lookup.join(seconds)
    if lookup.is_alive():
        raise TimeoutError(f"the name lookup of {host} did not finish in time")
    if lookup.error:
        raise lookup.error
    return list(lookup.addresses)


class _Limited(HTTPConnection):
    """A connection with one limit for lookup and all addresses, and one for the head of an answer."""

    def _new_conn(self) -> socket.socket:
        host, limit = self._dns_host, float(self.timeout or CONNECT_SECONDS)
        until = time.monotonic() + limit
        try:
            left = addresses_of(host, self.port or 0, limit)
        except OSError as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]  # or a TimeoutError
        try:
            while True:
                self._dns_host = left.pop(0)
                self.timeout = max(0.05, (until - time.monotonic()) / (len(left) + 1))
                try:
                    return super()._new_conn()
                except ConnectTimeoutError:
                    if not left:
                        raise
        finally:
            self._dns_host, self.timeout = host, limit

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # of http.client, which urllib3 changes
        sock = self.sock  # http.client forgets it if the server closes the connection after its answer
        with cut_after(self.timeout or REQUEST_SECONDS, sock) as over:
            try:
                response = super().getresponse()
            except (OSError, HTTPException) as error:
                if over.is_set():  # the cut looks like the server's end of the connection
                    raise TimeoutError("no answer in time") from error
                raise
        if over.is_set():  # half a head looks whole to http.client
            raise TimeoutError("the head of the answer does not end")
        response.sock = sock  # type: ignore[attr-defined]  # for cut_after while the body is read
        return response


class _SecureLimited(_Limited, HTTPSConnection):
    """The same over TLS."""


class LimitedPool(urllib3.HTTPConnectionPool):
    """Connections with such a limit."""

    ConnectionCls = _Limited


class SecureLimitedPool(urllib3.HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _SecureLimited


@contextlib.contextmanager
def cut_after(seconds: float, sock: socket.socket | None) -> Iterator[threading.Event]:
    """Cut a connection that is still read after `seconds`; the event shows that it was cut.

    The limit of a socket is one of each read: a byte a second, such as of the size of a chunk, never reaches it.
    """
    over = threading.Event()
    if sock is None or seconds == math.inf:
        yield over
        return
    timer = threading.Timer(max(0.0, seconds), _cut, (sock, over))
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()


def _cut(sock: socket.socket, over: threading.Event) -> None:
    over.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
