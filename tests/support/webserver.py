# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server on loopback that holds one file as Google's storage does, and breaks as it is told to."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], None]


@dataclass
class Site:
    """What the server holds, what it will do wrong, and what it was asked."""

    content: bytes
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    """One for each request to come, in order; after the last one all is well."""
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str | None] = field(default_factory=dict)
    """Instead of what the file's own would be; None leaves one out."""

    @property
    def url(self) -> str:
        """The file's address."""
        return f"http://127.0.0.1:{self.port}/bucket/file.npz"

    def stated(self) -> dict[str, str]:
        """Headers of the whole file."""
        merged = own_headers(self.content) | self.headers
        return {name: value for name, value in merged.items() if value is not None}


@functools.lru_cache(maxsize=4)
def own_headers(content: bytes) -> dict[str, str | None]:
    """What Google's storage states of an object; the CRC32C, which nobody reads, is not its own."""
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    return {
        "ETag": f'"{hashlib.md5(content).hexdigest()}"',
        "x-goog-hash": f"crc32c=AAAAAA==,md5={md5}",
        "Content-Type": "application/octet-stream",
    }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        """The next fault, else the file or the part that is asked for."""
        self.site.asked.append(dict(self.headers.items()))
        if self.site.faults:
            self.site.faults.pop(0)(self)
        else:
            self.give()

    def give(self, *, upto: int | None = None, **more: str) -> None:
        """The file, or the part that Range and If-Range ask for; `upto` cuts the connection after so many bytes."""
        stated, content, start = self.site.stated() | more, self.site.content, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range") in (stated.get("ETag"), stated.get("Last-Modified")):
            start = int(wanted[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", stated.pop("Content-Length", str(len(body))))
        for name, value in stated.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if upto is None else body[:upto])
        if upto is not None:
            self.cut()

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        """Any answer."""
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """End the connection in the middle."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """An answer instead of the file."""
    return lambda handler: handler.answer(code, body, **headers)


def cut_after(num_bytes: int) -> Fault:
    """The file's start, then the connection ends."""
    return lambda handler: handler.give(upto=num_bytes)


def cut_before_the_answer(handler: Handler) -> None:
    """Nothing at all."""
    handler.cut()


def silent_after(num_bytes: int, seconds: float) -> Fault:
    """The file's start, then nothing over an open connection."""

    def fault(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in (handler.site.stated() | {"Content-Length": str(len(handler.site.content))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(handler.site.content[:num_bytes])
        handler.wfile.flush()
        time.sleep(seconds)
        handler.cut()

    return fault


def slow(pieces: int, seconds: float) -> Fault:
    """The whole file, in pieces with a rest between them."""

    def fault(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in (handler.site.stated() | {"Content-Length": str(len(handler.site.content))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        size = -(-len(handler.site.content) // pieces)
        for start in range(0, len(handler.site.content), size):
            handler.wfile.write(handler.site.content[start : start + size])
            handler.wfile.flush()
            time.sleep(seconds)

    return fault


class Server(ThreadingHTTPServer):
    """A client that goes away is no error here."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(content: bytes) -> Iterator[Site]:
    """The server, while the block lasts."""
    site = Site(content)
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = Server(("127.0.0.1", 0), handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
