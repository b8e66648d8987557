# SPDX-License-Identifier: Apache-2.0
"""Each way in which a connection fails has its own sentence and fix, in time, whatever the verb."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3.exceptions as failures
from urllib3.connection import HTTPSConnection

from mpikit.errors import NotFound, Timeout, Unreachable
from mpikit.kube.api import MPIJOB, find
from mpikit.kube.connections import Proxy, explained
from mpikit.kube.deadlines import CONTACT_SECONDS, addresses_of
from mpikit.lifecycle.wait import wait_for
from tests.conftest import Command
from tests.support.scripted import certificates
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import NAMESPACE, World, kubeconfig

VERBS = {
    "submit": ("submit",),
    "submit --smoke": ("submit", "--smoke"),
    "submit --follow": ("submit", "--follow"),
    "status": ("status", "job"),
    "status of the newest": ("status",),
    "status --watch": ("status", "job", "--watch"),
    "list": ("list",),
    "logs": ("logs", "job"),
    "logs -f": ("logs", "job", "-f"),
    "wait": ("wait", "job"),
    "delete": ("delete", "job"),
    "diff": ("diff",),
    "doctor": ("doctor",),
}
HTML = b"<html><body>404 Not Found</body></html>"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a first contact, shortened."""
    monkeypatch.setattr("mpikit.kube.deadlines.CONTACT_SECONDS", 0.2)
    monkeypatch.setattr("mpikit.kube.deadlines.NOTICE_SECONDS", 0.1)


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the domain .invalid do not exist, without asking the network."""
    real = socket.getaddrinfo

    def lookup(host: Any, *more: Any, **named: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def at(world: World, server: str, **cluster: Any) -> tuple[str, ...]:
    """Options that lead to this server."""
    config = kubeconfig(world.server, {"token": "t"}, **cluster)
    config["clusters"][0]["cluster"]["server"] = server
    path = world.folder / "elsewhere"
    path.write_text(json.dumps(config))
    return ("--kubeconfig", str(path), "-n", NAMESPACE, "--set", "user=ada")


def sending(code: int, body: bytes, kind: str) -> Callable[[Request, Handler], bool]:
    def answer(_request: Request, handler: Handler) -> bool:
        handler.send(code, body, {"Content-Type": kind})
        return True

    return answer


# -- Each verb --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon", "nameless")
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_names_what_is_wrong_with_the_connection(verb: str, world: World, generate: Command) -> None:
    world.server.answer = sending(404, HTML, "text/html")
    places = {
        "is not a Kubernetes API server: ": world.server.url,
        "unknown host api.nowhere.invalid": "https://api.nowhere.invalid:6443",
        "refused the connection": world.server.url,
    }
    for sentence, server in places.items():
        if sentence == "refused the connection":
            world.server.shut()
        done = generate(*VERBS[verb], *at(world, server))
        assert done.returncode == 3, done.stderr
        *_, line, fix = done.stderr.splitlines()
        assert sentence in line
        assert fix.startswith("  fix: ")
        assert "server:" in fix


def test_a_server_that_never_answered_gets_five_seconds_and_the_user_hears_of_it(world: World) -> None:
    world.server.shut()
    told: list[str] = []
    cluster = world.cluster(tell=told.append)
    began = world.clock()
    with pytest.raises(Unreachable, match="refused the connection"):
        find(cluster, MPIJOB, NAMESPACE, "job")
    assert CONTACT_SECONDS - 1.1 < world.clock() - began < CONTACT_SECONDS + 1
    assert [line.partition("; ")[2] for line in told] == ["retrying for 3 s (Ctrl-C stops)"]


def test_a_server_that_has_answered_once_gets_more_time(world: World) -> None:
    cluster = world.cluster()
    find(cluster, MPIJOB, NAMESPACE, "job")
    world.server.shut(seconds=8)
    assert find(cluster, MPIJOB, NAMESPACE, "job") is None


def test_a_wait_passes_its_timeout_by_one_request_at_most(world: World) -> None:
    metadata = {"name": "job", "namespace": NAMESPACE, "uid": "u"}
    world.server.store.put("ADDED", "mpijobs", {"kind": "MPIJob", "metadata": metadata})

    def fails_later(request: Request, handler: Handler) -> bool:
        if len(world.server.requests) > 1:
            handler.status(503, "ServiceUnavailable", "etcd is down")
        return len(world.server.requests) > 1

    world.server.answer = fails_later
    began = world.clock()
    with pytest.raises((Timeout, Unreachable)):
        wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 5.0, str)
    assert world.clock() - began < 5.0 + world.request_seconds


def test_time_of_a_login_plugin_is_not_the_servers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = world.cluster()
    asked: list[str] = []

    def refuse_twice(_request: Request, handler: Handler) -> bool:
        asked.append("")
        if len(asked) == 1:
            handler.status(401, "Unauthorized", "expired")
        elif len(asked) == 2:
            handler.status(503, "ServiceUnavailable", "starting")
        return len(asked) <= 2

    world.server.answer = refuse_twice
    log_in = world.clock.skip  # the user takes ten minutes in a browser
    monkeypatch.setattr("mpikit.kube.client.has_file", lambda named: log_in(600) is None)
    assert find(cluster, MPIJOB, NAMESPACE, "job") is None
    assert len(asked) == 3


@pytest.mark.usefixtures("soon")
def test_a_server_that_accepts_and_stays_silent_has_not_answered_in_time(world: World) -> None:
    silence = threading.Event()
    world.server.answer = lambda request, handler: silence.wait(20)
    with pytest.raises(Unreachable, match="accepted the connection and did not answer in time"):
        find(world.cluster(request_seconds=0.3), MPIJOB, NAMESPACE, "job")
    silence.set()


# -- What is not an API server ----------------------------------------------------------------------------------------

OTHERS = {
    "a web page": sending(200, b"<html>hello</html>", "text/html; charset=utf-8"),
    "a page that is not there": sending(404, HTML, "text/html"),
    "plain text": sending(200, b"hello", "text/plain"),
    "plain text that is not there": sending(404, b"404 page not found\n", "text/plain"),
    "a server of TLS that is asked without": sending(400, b"Client sent an HTTP request to an HTTPS server.\n", ""),
    "another API": sending(404, b'{"detail": "Not Found"}', "application/json"),
    "a login page elsewhere": sending(302, b"", "text/plain"),
    "a proxy that forbids": sending(403, b"<html>no</html>", "text/html"),
}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_an_api_server_is_named_so(other: str, world: World) -> None:
    world.server.answer = OTHERS[other]
    with pytest.raises(Unreachable, match="is not a Kubernetes API server"):
        find(world.cluster(), MPIJOB, NAMESPACE, "job")
    assert len(world.server.requests) <= 2  # no use in trying again


@pytest.mark.usefixtures("soon")
def test_a_server_that_does_not_speak_http_is_named_so(world: World) -> None:
    def banner(_request: Request, handler: Handler) -> bool:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        handler.close_connection = True
        return True

    world.server.answer = banner
    with pytest.raises(Unreachable, match="does not speak HTTP"):
        find(world.cluster(), MPIJOB, NAMESPACE, "job")


def test_an_api_server_without_the_operator_is_still_an_api_server(world: World) -> None:
    def no_operator(request: Request, handler: Handler) -> bool:
        if request.path == "/version":
            handler.send(200, b'{"gitVersion": "v1.34.0"}')
        else:
            handler.send(404, b"404 page not found\n", {"Content-Type": "text/plain"})
        return True

    world.server.answer = no_operator
    with pytest.raises(NotFound) as caught:
        find(world.cluster(), MPIJOB, NAMESPACE, "job")
    assert caught.value.no_api


# -- TLS, proxies, names ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon")
def test_each_fault_of_tls_has_its_own_sentence(
    world: World, generate: Command, trusted: certificates.Certificates
) -> None:
    secure = Scripted(certificates=trusted)
    port, authority = secure.port, {"certificate-authority": str(trusted.authority)}
    cases = {
        "is not signed by an authority": (f"https://127.0.0.1:{port}", {}),
        "is for another host, not for localhost": (f"https://localhost:{port}", authority),
        "does not speak TLS": (world.server.url.replace("http:", "https:"), {}),
    }
    for sentence, (server, more) in cases.items():
        done = generate("status", "job", *at(world, server, **more))
        assert done.returncode == 3
        assert sentence in done.stderr
        assert "retrying" not in done.stderr
    secure.close()


@pytest.mark.usefixtures("soon", "nameless")
def test_a_proxy_that_fails_is_named(world: World, generate: Command) -> None:
    proxies = {
        "it refused the connection": f"http://127.0.0.1:{world.server.port}",
        "its host name cannot be resolved": "http://proxy.invalid:3128",
    }
    world.server.shut()
    for words, proxy in proxies.items():
        done = generate("status", "job", *at(world, "https://api.example.com", **{"proxy-url": proxy}))
        named = f"the proxy {proxy} of proxy-url in kubeconfig"
        assert f"{named} cannot be used to reach https://api.example.com: {words}" in done.stderr
        assert "fix: correct proxy-url in kubeconfig, or remove it" in done.stderr


def test_a_name_lookup_that_hangs_ends_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpikit.kube.deadlines.CONTACT_SECONDS", 0.6)
    monkeypatch.setattr("mpikit.kube.deadlines.NOTICE_SECONDS", 0.3)
    hangs, lookups = threading.Event(), list[str]()
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: (lookups.append(host), hangs.wait(20), [])[2])
    at(world, "https://api.slow.invalid:6443")
    world.kubeconfig = world.folder / "elsewhere"
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"name lookup of api\.slow\.invalid did not finish in time"):
        find(world.cluster(clock=time.monotonic, sleep=time.sleep), MPIJOB, NAMESPACE, "job")
    hangs.set()
    assert time.monotonic() - began < 3
    assert lookups == ["api.slow.invalid"]  # a repeat waits for the same lookup


def test_many_threads_can_look_up_one_name() -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: addresses_of("localhost", 1, 5.0), range(400)))
    assert all(found)


def test_all_addresses_of_a_name_are_tried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host == "both.invalid":
            return [*real("127.0.0.2", port, *more, **named), *real("127.0.0.1", port, *more, **named)]
        return real(host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    at(world, f"http://both.invalid:{world.server.port}")
    world.kubeconfig = world.folder / "elsewhere"
    world.server.tokens.append("t")
    assert find(world.cluster(), MPIJOB, NAMESPACE, "job") is None


def certificate_error(code: int) -> Exception:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "words"
    return failures.SSLError(error)


def not_connected(number: int) -> Exception:
    error = failures.NewConnectionError(HTTPSConnection("host"), "x")
    error.__cause__ = OSError(number, "words")
    return error


@pytest.mark.parametrize(
    ("error", "sentence", "fix"),
    [
        (not_connected(errno.EHOSTUNREACH), "no route to https://host:1", "VPN"),
        (not_connected(errno.ENETUNREACH), "no route to https://host:1", "VPN"),
        (failures.ConnectTimeoutError("x"), "did not accept a connection in time", "firewall"),
        (failures.ReadTimeoutError(None, "/", "x"), "did not answer in time", "--request-timeout"),  # type: ignore[arg-type]
        (certificate_error(10), "the certificate of https://host:1 has expired", "date"),
        (certificate_error(9), "the certificate of https://host:1 is not valid yet", "date"),
        (certificate_error(64), "is for another host, not for host", "tls-server-name"),
        (
            failures.ProxyError("x", OSError("Tunnel connection failed: 407 x")),
            "Tunnel connection failed: 407",
            "PROXY",
        ),
        (failures.LocationParseError("x"), "is not a valid address", "correct server:"),
    ],
)
def test_other_causes_are_told_apart(error: Exception, sentence: str, fix: str) -> None:
    found = explained(error, "https://host:1", Proxy("http://proxy:2", "HTTPS_PROXY"))
    assert sentence in found.message
    assert fix in found.fix


# -- kubeconfig -------------------------------------------------------------------------------------------------------


def test_a_kubeconfig_that_cannot_be_used_says_what_to_type(world: World, generate: Command) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "interactiveMode": "Never"}
    configs: dict[str, Any] = {
        "no-plugin": kubeconfig(world.server, {"exec": plugin}),
        "hint": kubeconfig(world.server, {"exec": {**plugin, "installHint": "pip install\n plugin"}}),
        "empty": {**kubeconfig(world.server, {}), "contexts": []},
        "unset": {**kubeconfig(world.server, {}), "current-context": ""},
        "config": kubeconfig(world.server, {"token": "t"}),
    }
    for name, content in configs.items():
        (world.folder / name).write_text(json.dumps(content))
    here, context = world.folder, ("--context", "other")
    cases: list[tuple[Path, tuple[str, ...], str, str]] = [
        (here, (), f"kubeconfig {here} is a folder, not a file", f"--kubeconfig {here}/config"),
        (here / "config", context, f"context other is not in {here}/config", "--context NAME with one of: lab"),
        (here / "unset", (), "sets no current-context", "kubectl config use-context NAME"),
        (here / "empty", (), "contains no context", "--kubeconfig FILE"),
        (here / "no-plugin", (), "the login plug-in no-such-plugin of user ada", "install no-such-plugin"),
        (here / "hint", (), "the login plug-in no-such-plugin of user ada", "pip install plugin"),
    ]
    for path, more, sentence, fix in cases:
        done = generate("list", "-n", NAMESPACE, "--kubeconfig", str(path), *more)
        line, second = done.stderr.splitlines()
        assert done.returncode == 3
        assert sentence in line
        assert fix in second
