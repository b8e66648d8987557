# SPDX-License-Identifier: Apache-2.0
"""What kubectl accepts as kubeconfig and proxy, the kit accepts; what it rejects is one sentence with a fix.

Each case runs on both: kubectl is the second reader of the table, where it is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mpikit.errors import Unreachable
from mpikit.kube.api import MPIJOB, find
from mpikit.kube.client import Cluster
from mpikit.kube.kubeconfig import choose
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import NAMESPACE, World

VARIABLES = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")


@dataclass(frozen=True)
class Case:
    """A kubeconfig, as changes of a plain one. PORT is the server's; `said` is empty if it is accepted."""

    said: str = ""
    server: str = "http://127.0.0.1:PORT"
    cluster: str = ""
    user: str = "{token: t}"
    whole: str = ""
    """The text in place of the plain one."""
    listed: str = "config"
    """KUBECONFIG."""
    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


def plain(server: str = "http://127.0.0.1:PORT", cluster: str = "", user: str = "{token: t}") -> str:
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: k, cluster: {{server: '{server}'{cluster}}}}}]\n"
        f"contexts: [{{name: c, context: {{cluster: k, user: u, namespace: {NAMESPACE}}}}}]\n"
        f"users: [{{name: u, user: {user}}}]\n"
    )


def changed(old: str, new: str) -> str:
    assert old in plain()
    return plain().replace(old, new)


FAR = "http://api.invalid"
CASES = {
    # Empty files and nulls
    "plain": Case(),
    "an empty file first": Case(listed="empty:config", files={"empty": ""}),
    "an empty file last": Case(listed="config:empty", files={"empty": ""}),
    "a file of comments": Case(listed="note:config", files={"note": "# mine\n"}),
    "a file of dashes": Case(listed="dashes:config", files={"dashes": "---\n"}),
    "a file of null": Case(listed="null:config", files={"null": "null\n"}),
    "only an empty file": Case("contains no context", whole="\n"),
    "null lists": Case(listed="nulls:config", files={"nulls": "contexts: null\nclusters: null\nusers: null\n"}),
    "a null context beside": Case(whole=changed("contexts: [", "contexts: [{name: x, context: null}, ")),
    "a null item": Case(whole=changed("contexts: [", "contexts: [null, ")),
    "users: null": Case(whole=changed("users: [", "users: null\nelse: [")),
    "clusters: null": Case("no server", whole=changed("clusters: [", "clusters: null\nelse: [")),
    "contexts: null": Case("contains no context", whole=changed("contexts: [", "contexts: null\nelse: [")),
    "a null user": Case(user="null"),
    "null fields": Case(
        cluster=", proxy-url: null, certificate-authority: null, tls-server-name: ''",
        user="{token: null, tokenFile: '', exec: null, auth-provider: null, client-certificate: ''}",
    ),
    "no user in the context": Case(whole=changed(", user: u", "")),
    # Forms
    "a byte order mark": Case(whole="\ufeff" + plain()),
    "Windows line ends": Case(whole=plain().replace("\n", "\r\n")),
    "two documents": Case(whole=f"{plain()}---\n{plain()}"),
    "a date as namespace": Case(whole=changed(f"namespace: {NAMESPACE}", "namespace: 2026-01-02")),
    "an anchor": Case(whole=changed("users: [{", "users: [&a {")),
    "a map of contexts": Case("contexts is not a list", whole=changed("contexts: [", "contexts: {}\nelse: [")),
    "a list": Case("not have the form", whole="- a\n"),
    "a word": Case("not have the form", whole="hello\n"),
    "a number as namespace": Case("namespace is not text", whole=changed(f"namespace: {NAMESPACE}", "namespace: 5")),
    "a number as password": Case("password is not text", user="{username: a, password: 123}"),
    "a name twice": Case("the name u twice", whole=changed("users: [", "users: [{name: u, user: {token: x}}, ")),
    # server:
    "no scheme": Case(server="127.0.0.1:PORT"),
    "no scheme and a name": Case(server="localhost:PORT/"),
    "no scheme and a path": Case("a path and no scheme", server="127.0.0.1:PORT/k8s/clusters/c-1"),
    "capitals": Case(server="HTTP://127.0.0.1:PORT"),
    "slashes at the end": Case(server="http://127.0.0.1:PORT//"),
    "a query": Case(server="http://127.0.0.1:PORT?a=b"),
    "another scheme": Case("is not a valid address", server="ftp://127.0.0.1:PORT"),
    "a blank": Case("is not a valid address", server=" http://127.0.0.1:PORT"),
    "no port number": Case("is not a valid address", server="http://127.0.0.1:x"),
    # Proxies
    "a proxy": Case(server=FAR, variables={"HTTP_PROXY": "http://127.0.0.1:PORT"}),
    "a proxy without a scheme": Case(server=FAR, variables={"HTTP_PROXY": "127.0.0.1:PORT"}),
    "a proxy by name": Case(server=FAR, variables={"http_proxy": "localhost:PORT/"}),
    "a proxy with a login": Case(server=FAR, variables={"HTTP_PROXY": "me:p%40ss@127.0.0.1:PORT"}),
    "a proxy of another scheme": Case(server=FAR, variables={"HTTP_PROXY": "ftp://127.0.0.1:PORT"}),
    "capitals win": Case(server=FAR, variables={"HTTP_PROXY": "127.0.0.1:PORT", "http_proxy": "127.0.0.1:1"}),
    "small letters lose": Case(
        "the proxy http://127.0.0.1:1 of HTTP_PROXY cannot be used to reach http://api.invalid: it refused",
        server=FAR,
        variables={"HTTP_PROXY": "127.0.0.1:1", "http_proxy": "127.0.0.1:PORT"},
    ),
    "the proxy of https": Case(
        "the proxy http://127.0.0.1:1 of https_proxy cannot be used to reach https://api.invalid",
        server="https://api.invalid",
        variables={"https_proxy": "127.0.0.1:1", "HTTP_PROXY": "127.0.0.1:PORT"},
    ),
    "the proxy of https for http": Case("api.invalid", server=FAR, variables={"HTTPS_PROXY": "127.0.0.1:PORT"}),
    "ALL_PROXY": Case("api.invalid", server=FAR, variables={"ALL_PROXY": "http://127.0.0.1:PORT"}),
    "ALL_PROXY on the way": Case(variables={"ALL_PROXY": "http://127.0.0.1:1", "all_proxy": "socks5://127.0.0.1:1"}),
    "a server without a scheme": Case(server="api.invalid:80", variables={"HTTP_PROXY": "127.0.0.1:PORT"}),
    "no address": Case('HTTP_PROXY: "::" is not', server=FAR, variables={"HTTP_PROXY": "::"}),
    "two blanks": Case('HTTP_PROXY: "http://a b" is not', server=FAR, variables={"HTTP_PROXY": "http://a b"}),
    "this machine": Case(variables={"HTTP_PROXY": "127.0.0.1:1"}),
    "NO_PROXY": Case(
        "api.invalid", server=FAR, variables={"HTTP_PROXY": "127.0.0.1:PORT", "NO_PROXY": "x, api.invalid"}
    ),
    "NO_PROXY of a star": Case(
        "api.invalid", server=FAR, variables={"HTTP_PROXY": "127.0.0.1:PORT", "NO_PROXY": "*.invalid"}
    ),
    "NO_PROXY of another port": Case(
        server=FAR, variables={"HTTP_PROXY": "127.0.0.1:PORT", "NO_PROXY": "api.invalid:6443"}
    ),
    "NO_PROXY of what is below": Case(
        server=FAR, variables={"HTTP_PROXY": "127.0.0.1:PORT", "NO_PROXY": ".api.invalid"}
    ),
    "proxy-url": Case(server=FAR, cluster=", proxy-url: 'http://127.0.0.1:PORT'", variables={"NO_PROXY": "*"}),
    "proxy-url for this machine": Case(server="http://127.0.0.1:1", cluster=", proxy-url: 'http://127.0.0.1:PORT'"),
    "proxy-url without a scheme": Case(
        'proxy-url in kubeconfig: "localhost:PORT" is not', server=FAR, cluster=", proxy-url: 'localhost:PORT'"
    ),
}


def answer(request: Request, handler: Handler) -> bool:
    """Answer as an API server without objects, whoever asks: kubectl sends no token without TLS."""
    if request.path == "/version":
        handler.send(200, b'{"gitVersion": "v1.32.0"}', {"Content-Type": "application/json"})
    else:
        handler.status(404, "NotFound", "no", {})
    return True


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server, a folder with nothing of the user's, and no variables."""
    for name in (*VARIABLES, *PROXIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("mpikit.kube.deadlines.CONTACT_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    made = World(Scripted(), tmp_path / "world")
    made.server.answer = answer
    yield made
    made.close()


def prepare(case: Case, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(world.server.port)
    texts = {"config": case.whole or plain(case.server, case.cluster, case.user), **case.files}
    for name, text in texts.items():
        Path(name).write_text(text.replace("PORT", port))
    for name, text in {"KUBECONFIG": case.listed, **case.variables}.items():
        monkeypatch.setenv(name, text.replace("PORT", port))


@pytest.mark.parametrize("name", CASES)
def test_the_kit_accepts_a_kubeconfig_or_says_what_is_wrong(
    name: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    prepare(case, world, monkeypatch)
    rejected = pytest.raises(Unreachable) if case.said else contextlib.nullcontext()
    with rejected as caught:
        find(Cluster(sleep=world.clock.sleep, clock=world.clock), MPIJOB, NAMESPACE, "job")
    if caught:
        assert case.said.replace("PORT", str(world.server.port)) in caught.value.message
        assert caught.value.hint


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("name", CASES)
def test_kubectl_decides_in_the_same_way(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    prepare(case, world, monkeypatch)
    command = ["kubectl", "get", "--raw", "/version", "--request-timeout=5s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not case.said), done.stderr


TOKENS = {
    "a final newline": "abc\n",
    "Windows": "abc\r\n",
    "blanks around": "\n  abc \n\n",
    "bare": "abc",
}


@pytest.mark.parametrize("text", TOKENS.values(), ids=TOKENS)
def test_a_token_file_may_end_with_newlines(text: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(Case(user="{tokenFile: secret/token, token: older}"), world, monkeypatch)
    Path("secret").mkdir()
    Path("secret/token").write_bytes(text.encode())
    find(Cluster(), MPIJOB, NAMESPACE, "job")
    assert world.server.requests[-1].headers["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("user", "said"),
    {
        "{tokenFile: none}": "/none cannot be read: No such file or directory",
        "{tokenFile: blank}": "/blank is empty",
        '{token: "abc\\n"}': "token contains a line break",
    }.items(),
)
def test_a_token_that_cannot_be_sent_is_named(
    user: str, said: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(Case(user=user), world, monkeypatch)
    Path("blank").write_text("\n")
    with pytest.raises(Unreachable, match=said) as caught:
        Cluster()
    assert "abc" not in caught.value.message
    assert caught.value.hint


def test_a_proxy_gets_the_login_of_its_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(CASES["a proxy with a login"], world, monkeypatch)
    find(Cluster(), MPIJOB, NAMESPACE, "job")
    assert world.server.requests[-1].headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="


def test_files_are_relative_to_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    users = [{"name": "u", "user": {"client-key": "key", "exec": {"command": "./log-in", "args": None}}}]
    cluster = {"name": "k", "cluster": {"server": "h:1", "certificate-authority": "ca"}}
    context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
    for folder, config in {
        one: {"users": users},
        two: {"current-context": "c", "clusters": [cluster], "contexts": [context]},
    }.items():
        folder.mkdir()
        (folder / "config").write_text(json.dumps(config))
    (one / "log-in").write_text("")
    (one / "log-in").chmod(0o755)
    config = choose(f"{one / 'config'}{os.pathsep}{two / 'config'}", None).config
    assert config["users"][0]["user"]["client-key"] == str(one / "key")
    assert config["users"][0]["user"]["exec"]["command"] == str(one / "log-in")
    assert config["clusters"][0]["cluster"] == {"server": "https://h:1", "certificate-authority": str(two / "ca")}


def test_a_user_without_a_home_reaches_the_account_of_the_pod(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # a uid without an entry in passwd
    with pytest.raises(Unreachable, match=r"kubeconfig ~/.kube/config does not exist"):
        Cluster()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(world.server.port))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", "/none/token")
    with pytest.raises(Unreachable, match="token"):
        Cluster()
