# SPDX-License-Identifier: Apache-2.0
"""Choose the proxy to the API server as kubectl does (golang.org/x/net/http/httpproxy and client-go)."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from urllib.parse import unquote, urlsplit

import kubernetes.client
import urllib3

from mpikit.errors import Unreachable
from mpikit.kube.connections import PROXY_URL, Proxy, has_host
from mpikit.text.redaction import keep_secret, redact

_SOCKS = ("socks5", "socks5h")


def proxy_for(server: str, proxy_url: str) -> Proxy | None:
    """Return the proxy to a server: proxy-url always, else the variable of the server's scheme. ALL_PROXY is not used.

    Raises Unreachable if it is not an address.
    """
    if proxy_url:
        return _checked(Proxy(proxy_url, PROXY_URL))
    parts = urlsplit(server)
    names = ("HTTPS_PROXY", "https_proxy") if parts.scheme == "https" else ("HTTP_PROXY", "http_proxy")
    source = next((name for name in names if os.environ.get(name)), "")
    exempt = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not source or is_exempt(parts.hostname or "", port, exempt):
        return None
    url = os.environ[source]
    return _checked(Proxy(url if has_host(url) else f"http://{url}", source))


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether a host needs no proxy. One on this machine never does."""
    address = _ip(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in (one.strip().lower() for one in no_proxy.split(",")):
        name, colon, wanted = entry.rpartition(":") if entry.rpartition(":")[2].isdigit() else (entry, "", "")
        if entry == "*" or (address is not None and _in_network(address, entry)):
            return True
        if not name or (colon and wanted != str(port)):
            continue
        name = name.removeprefix("*") if name.startswith("*.") else name
        if host == name or host.endswith(name if name.startswith(".") else f".{name}"):
            return True
    return False


def use(proxy: Proxy | None, configuration: kubernetes.client.Configuration) -> None:
    """Set the proxy of the client, and the credentials in its address, which urllib3 does not send by itself."""
    configuration.proxy, configuration.no_proxy = None, ""
    if proxy is None:
        return
    parts = urlsplit(proxy.url)
    socks = parts.scheme in _SOCKS
    if socks and importlib.util.find_spec("socks") is None:
        fix = f"pip install PySocks, or set {proxy.source} to an http:// proxy"
        raise Unreachable(f"the proxy {proxy} needs the Python package PySocks", fix)
    scheme = parts.scheme if socks or parts.scheme == "https" else "http"  # Go speaks HTTP to any other
    configuration.proxy = parts._replace(scheme=scheme).geturl()
    if parts.username and not socks:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=login)
        keep_secret(parts.password, unquote(parts.password or ""))


def _checked(proxy: Proxy) -> Proxy:
    parts = urlsplit(proxy.url)
    wrong = not has_host(proxy.url) or any(sign.isspace() for sign in proxy.url)
    if proxy.source == PROXY_URL and parts.scheme not in ("http", "https", *_SOCKS):
        wrong = True
    if wrong:
        value = redact(os.environ.get(proxy.source, proxy.url))
        raise Unreachable(f'{proxy.source}: "{value}" is not the address of a proxy', "write http://HOST:PORT")
    return proxy


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
