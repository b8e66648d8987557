# SPDX-License-Identifier: Apache-2.0
"""One file on a web server: what the server states of it, and its bytes from a given place on. No torch, no numpy."""

from __future__ import annotations

import base64
import binascii
import email.utils
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from email.message import Message
from typing import Any, NoReturn

from vit.errors import ConfigError, DataError, NetworkError

CHUNK_BYTES = 2**16
SLOWEST_BYTES = 2**10  # fewer than these within the time allowed: the connection is as good as dead
LONGEST_WAIT_SECONDS = 300.0  # a server that asks for more is taken to refuse
PASSING = (408, 425, 429, 500, 502, 503, 504)  # RFC 9110 and 6585: worth another try
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """What the server says of the whole file; None where it says nothing."""

    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    md5: str | None = None

    @property
    def version(self) -> str | None:
        """What If-Range takes (RFC 9110, 13.1.5): a strong ETag, else the date."""
        strong = self.etag is not None and not self.etag.startswith("W/")
        return self.etag if strong else self.modified

    def as_dict(self) -> dict[str, Any]:
        """For the file beside a half-finished download."""
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Stated:
        """Return the inverse of as_dict; unknown names are passed over."""
        return cls(**{field.name: found.get(field.name) for field in fields(cls)})


class Passing(Exception):
    """A failure that another try may fix; `wait_seconds` is what the server asks for."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait_seconds = reason, wait_seconds


class Changed(Exception):
    """The part that is here belongs to another file than the server's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An open body that starts at byte `start` of the file."""

    stated: Stated
    start: int
    body: http.client.HTTPResponse
    stall_seconds: float

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes to the end of the body; Passing when the connection breaks, stalls or ends early."""
        position, since, before = self.start, time.monotonic(), self.start
        with self.body:
            while True:
                try:
                    chunk = self.body.read1(CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise Passing(f"the connection broke ({_reason(error)})") from error
                if not chunk:
                    break
                position += len(chunk)
                yield chunk
                if time.monotonic() - since > self.stall_seconds:
                    if position - before < SLOWEST_BYTES:
                        raise Passing(f"stalled: {position - before} bytes in {self.stall_seconds:g} s")
                    since, before = time.monotonic(), position
        if self.stated.size is not None and position < self.stated.size:
            raise Passing(f"the connection ended at byte {position} of {self.stated.size}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to https or to the scheme it came from, never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the next request. Raises NetworkError for a scheme that loses the protection of https."""
        old, new = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if new not in ("https", old):
            what = f"is sent on to {newurl.partition('?')[0]}, which leaves {old}"
            raise NetworkError(
                req.full_url.partition("?")[0], what, "give the address that it is meant to have, or another source"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file's address, and how long to wait for its server."""

    url: str
    stall_seconds: float = 30.0
    """How long to wait for a connection, for an answer, and for SLOWEST_BYTES of a body."""

    @property
    def name(self) -> str:
        """The address for people: without its query, which may contain a signature."""
        return self.url.partition("?")[0]

    def open(self, start: int = 0, known: Stated | None = None) -> Answer:
        """Return the file from byte `start`; from 0 if the server has another file than `known`, or ignores ranges.

        Raises Passing, Changed, TrainError.
        """
        headers = {"User-Agent": "vit.fetch", "Accept-Encoding": "identity"}
        if start and known and known.version:
            headers |= {"Range": f"bytes={start}-", "If-Range": known.version}
        body = self._request(headers)
        stated = _stated(body.headers)
        if body.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            packed = body.headers["Content-Encoding"]
            body.close()
            what = f"comes packed ({packed}) although it was not asked to be, so it cannot be checked"
            raise DataError(self.name, what, "get it from another server, or past the proxy between")
        first = 0
        if body.status == 206:
            first, stated = self._continued(body, stated, start, known)
        return Answer(stated, first, body, self.stall_seconds)

    def _request(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        opener = urllib.request.build_opener(_Redirects)
        request = urllib.request.Request(self.url, headers=dict(headers))
        try:
            body: http.client.HTTPResponse = opener.open(request, timeout=self.stall_seconds)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except urllib.error.URLError as error:
            self._unreached(error.reason if isinstance(error.reason, Exception) else error)
        except (OSError, http.client.HTTPException) as error:
            self._unreached(error)
        return body

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        """Turn an answer that is not a file into the right exception."""
        code = error.code
        if code == 416:
            raise Changed(f"the server has no byte there (HTTP {code})")
        if code in PASSING:
            raise Passing(f"HTTP {code} {error.reason}", _retry_after(error.headers))
        if 300 <= code < 400:
            what = f"is sent on without end or nowhere (HTTP {code})"
            raise NetworkError(self.name, what, "open the address in a browser and give the one that it ends at")
        told = _text_of(_start_of(error))
        what = f"the server rejected the request: HTTP {code} {error.reason}{f' ({told})' if told else ''}"
        raise NetworkError(self.name, what, "check that the address is right and public")

    def _unreached(self, error: Exception) -> NoReturn:
        if isinstance(error, (ssl.SSLCertVerificationError, ValueError, http.client.InvalidURL)):
            reason = _reason(error)
            raise NetworkError(self.name, f"cannot be asked ({reason})", _advice(error)) from error
        raise Passing(f"no answer ({_reason(error)})") from error

    def _continued(
        self, body: http.client.HTTPResponse, stated: Stated, start: int, known: Stated | None
    ) -> tuple[int, Stated]:
        """Where a partial answer begins, and the file it is a part of. Raises Changed if it is not a continuation."""
        place = _RANGE.fullmatch(body.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != start or known is None:
            body.close()
            raise Changed(f"a part that was not asked for came (Content-Range: {body.headers.get('Content-Range')})")
        same = stated.etag == known.etag if known.etag else stated.modified == known.modified
        if known.size not in (None, int(place[3])) or not same:
            body.close()
            raise Changed("the file on the server is another one than before")
        return start, Stated.of({**known.as_dict(), "size": int(place[3])})


def checked_url(url: str) -> str:
    """Return the address with all but ASCII's harmless characters encoded. Raises ConfigError."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "URL", f"{url!r} is not the address of a web server", "give one that starts with https:// or http://"
        )
    if parts.username or parts.password:
        raise ConfigError("URL", "contains a user or a password", "give a public address")
    return urllib.parse.urlunsplit(parts._replace(path=urllib.parse.quote(parts.path, safe="/%+")))


def _stated(headers: Message) -> Stated:
    """Content-Length, ETag, Last-Modified, and the MD5 as Google Cloud Storage and RFC 1864 state it."""
    hashes: dict[str, str] = {}
    for line in headers.get_all("x-goog-hash", []):
        for item in line.split(","):
            name, _, value = item.strip().partition("=")
            hashes[name] = value
    length = headers.get("Content-Length", "")
    partial = headers.get("Content-Range") is not None
    return Stated(
        size=int(length) if length.isdigit() and not partial else None,
        etag=headers.get("ETag"),
        modified=headers.get("Last-Modified"),
        md5=_hex(hashes.get("md5") or (None if partial else headers.get("Content-MD5"))),
    )


def _hex(value: str | None) -> str | None:
    """Return an MD5 in base64 as hex; None if it is none."""
    try:
        packed = base64.b64decode(value or "", validate=True)
    except (binascii.Error, ValueError):
        return None
    return packed.hex() if len(packed) == 16 else None


def _retry_after(headers: Message) -> float:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3), at most LONGEST_WAIT_SECONDS."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return min(float(value), LONGEST_WAIT_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, moment - time.time()), LONGEST_WAIT_SECONDS)


def _start_of(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(2000)
    except (OSError, http.client.HTTPException):
        return b""


def _text_of(page: bytes) -> str:
    """Return the words of a short page, for one line."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>?", " ", page.decode(errors="replace"), flags=re.DOTALL)
    return " ".join(text.split())[:160]


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.removeprefix("<").removesuffix(">")[:200]


def _advice(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "give Python the certificates of this site (SSL_CERT_FILE), or look who answers in its place"
    return "look whether the address is right"
