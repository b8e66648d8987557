# SPDX-License-Identifier: Apache-2.0
"""Explain a failed connection: one sentence and one fix for each cause, and whether another try can help.

urllib3 wraps the cause up to three times. Its NewConnectionError (refused, no route) and NameResolutionError are
subclasses of its TimeoutError, so the order of the questions matters.
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3.exceptions as failures

from mpikit.diagnostics import shortened
from mpikit.text.redaction import redact

LONGEST_REASON = 200
CORRECT = "correct server: in kubeconfig (kubectl config view --minify shows it)"
PROXY_URL = "proxy-url in kubeconfig"
# OpenSSL, x509_vfy.h: X509_V_ERR_*
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST, _WRONG_ADDRESS = 9, 10, 62, 64
_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)


class Broken(Exception):
    """No complete answer. `sent`: the server may have acted; `hopeless`: another try will fail in the same way."""

    def __init__(self, message: str, fix: str = "", *, sent: bool = True, hopeless: bool = False) -> None:
        super().__init__(message)
        self.message, self.fix, self.sent, self.hopeless = redact(message), redact(fix), sent, hopeless


@dataclass(frozen=True, slots=True)
class Proxy:
    """The address of a proxy, and the variable or field that sets it."""

    url: str
    source: str

    def __str__(self) -> str:
        return f"{redact(self.url)} of {self.source}"


def explained(error: Exception, server: str, proxy: Proxy | None = None) -> Broken:
    """Explain a failed try to the user."""
    if isinstance(error, failures.ProxyError) and proxy is not None:
        return _proxy_failed(error, server, proxy)
    if isinstance(error, failures.SSLError):
        return _tls_failed(error, server)
    if isinstance(error, (failures.LocationValueError, failures.URLSchemeUnknown)):
        return Broken(f"{server} is not a valid address", CORRECT, hopeless=True)
    if isinstance(error, failures.ConnectTimeoutError):  # NewConnectionError and NameResolutionError included
        return Broken(*_not_connected(error, server), sent=False)
    if isinstance(error, (TimeoutError, failures.TimeoutError)):
        fix = "try again later; --request-timeout SECONDS allows more time"
        return Broken(f"{server} accepted the connection and did not answer in time", fix)
    *_, inner = _chain(error)
    if isinstance(inner, http.client.BadStatusLine) and not isinstance(inner, ConnectionError):  # RemoteDisconnected
        return stranger(server, "it does not speak HTTP")
    return incomplete(server, reason(error))


def has_host(url: str) -> bool:
    """Return whether an address has a scheme, a host, and a port that is a number."""
    try:
        parts = urlsplit(url)
        return bool(parts.scheme and parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        return False


def stranger(server: str, seen: str) -> Broken:
    """Report that something else answers there; `seen` is the evidence."""
    fix = f"{CORRECT}; look for a proxy or a login page in between"
    return Broken(f"{server} is not a Kubernetes API server: {seen}", fix, hopeless=True)


def incomplete(server: str, why: str, *, hopeless: bool = False) -> Broken:
    """Report an answer that ended early."""
    return Broken(f"no complete answer from {server}: {why}", "try again later", hopeless=hopeless)


def _not_connected(error: Exception, server: str) -> tuple[str, str]:
    host = urlsplit(server).hostname or server
    if isinstance(error, failures.NameResolutionError):
        late = any(isinstance(one, TimeoutError) for one in _chain(error))
        what = f"the name lookup of {host} did not finish in time" if late else f"unknown host {host}"
        return what, f"connect the VPN and check the name server, or {CORRECT}"
    number = next((one.errno for one in _chain(error) if isinstance(one, OSError) and one.errno), 0)
    if number == errno.ECONNREFUSED:
        fix = f"start the cluster or its tunnel, or {CORRECT}"
        return f"{server} refused the connection: nothing listens on that port", fix
    if number in _NO_ROUTE:
        return f"no route to {server}", "check this machine's network and the VPN"
    fix = f"connect the VPN, check the firewall, or {CORRECT}"
    if isinstance(error, failures.NewConnectionError):
        return f"cannot connect to {server}: {reason(error)}", fix
    return f"{server} did not accept a connection in time", fix


def _proxy_failed(error: failures.ProxyError, server: str, proxy: Proxy) -> Broken:
    cause = error.original_error
    words = reason(cause)
    host = urlsplit(server).hostname or server
    if any(isinstance(one, ConnectionRefusedError) for one in _chain(cause)):
        words = "it refused the connection"
    elif isinstance(cause, failures.NameResolutionError):
        words = "its host name cannot be resolved"
    elif isinstance(cause, failures.TimeoutError) and not isinstance(cause, failures.NewConnectionError):
        words = "it did not answer in time"
    without = "remove it" if proxy.source == PROXY_URL else f"set NO_PROXY={host}"  # not heeded by proxy-url
    fix = f"correct {proxy.source}, or {without}"
    return Broken(f"the proxy {proxy} cannot be used to reach {server}: {words}", fix, sent=False)


def _tls_failed(error: failures.SSLError, server: str) -> Broken:
    host, words = urlsplit(server).hostname or server, reason(error)
    failed = next((one for one in _chain(error) if isinstance(one, ssl.SSLCertVerificationError)), None)
    if failed is not None:
        return Broken(*_certificate_rejected(failed.verify_code, words, server, host), sent=False, hopeless=True)
    if "WRONG_VERSION" in words.upper() or "HTTP_REQUEST" in words.upper():
        fix = f"{CORRECT}: its port, or http:// if the server has no TLS"
        return Broken(f"{server} does not speak TLS", fix, sent=False, hopeless=True)
    fix = "correct the cluster's entry in kubeconfig until kubectl cluster-info works"
    certificate = "CERTIFICATE" in words.upper()
    return Broken(f"the TLS connection to {server} failed: {words}", fix, sent=False, hopeless=certificate)


def _certificate_rejected(code: int, words: str, server: str, host: str) -> tuple[str, str]:
    if code in (_EXPIRED, _NOT_YET_VALID):
        what = "has expired" if code == _EXPIRED else "is not valid yet"
        fix = "check this machine's date; if it is right, the cluster's administrator has to renew the certificate"
        return f"the certificate of {server} {what}", fix
    if code in (_WRONG_HOST, _WRONG_ADDRESS):
        fix = "use a host name of the certificate in server:, or set tls-server-name: in kubeconfig"
        return f"the certificate of {server} is for another host, not for {host}", fix
    fix = "download the kubeconfig again, or set certificate-authority: in it to the cluster's CA file"
    return f"the certificate of {server} is not signed by an authority that your kubeconfig trusts ({words})", fix


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps."""
    while error is not None:
        yield error
        last = error.args[-1] if error.args else None
        error = last if isinstance(last, BaseException) else error.__cause__


def reason(error: BaseException) -> str:
    """Return the innermost message of a failed connection, in one short line."""
    *_, inner = _chain(error)
    if isinstance(error, (failures.ReadTimeoutError, TimeoutError)):
        return "no answer in time"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message
    if isinstance(inner, OSError) and inner.strerror and not isinstance(inner, socket.gaierror):
        return inner.strerror
    if isinstance(inner, http.client.RemoteDisconnected):
        return "the connection was closed before an answer came"
    if isinstance(inner, (http.client.IncompleteRead, failures.IncompleteRead)):
        return "the connection was closed within the answer"
    text = re.sub(r"^_?\w+\(host=[^)]*\): ", "", str(inner).rpartition(">: ")[2])
    return shortened(redact(text or "the connection broke"), LONGEST_REASON)
