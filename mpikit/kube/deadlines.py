# SPDX-License-Identifier: Apache-2.0
"""Connections whose limit is one of a whole answer: a server that drips bytes cannot hold a command."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Iterator

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

REQUEST_SECONDS = 15.0


class _Limited(HTTPConnection):
    """A connection whose limit is one of the head of an answer, not of each of its bytes."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # of http.client, which urllib3 changes
        sock = self.sock  # http.client forgets it if the server closes the connection after its answer
        with cut_after(self.timeout or REQUEST_SECONDS, sock) as over:
            response = super().getresponse()
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
    """Cut a connection that is still read after so long; the event says that it was.

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
