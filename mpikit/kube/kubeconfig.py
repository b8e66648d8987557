# SPDX-License-Identifier: Apache-2.0
"""Choose the kubeconfig, context and namespace of a command, as kubectl does.

In a file, null and empty fields are absent, and paths are relative to it.
"""

from __future__ import annotations

import binascii
import contextlib
import logging
import os
import re
import shutil
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mpikit.errors import ClusterError, Unreachable
from mpikit.kube.connections import has_host
from mpikit.text.lenient_yaml import first_document
from mpikit.text.nested import Object, as_map
from mpikit.text.redaction import redact

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MOST_NAMES = 20  # of contexts in a message
_KINDS = {"contexts": "context", "clusters": "cluster", "users": "user"}
_TEXTS = (  # client-go, tools/clientcmd/api/v1/types.go: fields of type string
    *("cluster", "user", "namespace"),
    *("server", "tls-server-name", "proxy-url", "certificate-authority", "certificate-authority-data"),
    *("token", "tokenFile", "username", "password"),
    *("client-certificate", "client-certificate-data", "client-key", "client-key-data"),
)
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_TLS = ("certificate-authority", "certificate-authority-data", "client-certificate", "client-certificate-data")
_PLUGIN_FAILED = re.compile(r"exec: process returned (-?\d+)(?:\. )?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The context of a command, the namespace that it sets, and a kubeconfig of nothing else."""

    context: str
    namespace: str
    config: Object
    proxy_url: str = ""


def default_kubeconfig() -> str:
    """Return KUBECONFIG, else ~/.kube/config; a user without an entry in passwd and without HOME has none."""
    return os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")  # noqa: PTH111  # Path raises then


def has_file(named: str) -> bool:
    """Return whether one of the paths is a file. Raises Unreachable for a folder."""
    paths = _paths(named)
    for path in paths:
        if path.is_dir():
            inside = path / "config"
            fix = f"--kubeconfig {inside if inside.is_file() else 'FILE'}"
            raise Unreachable(f"kubeconfig {path} is a folder, not a file", fix)
    return any(path.is_file() for path in paths)


def choose(named: str, wanted: str | None) -> Chosen:
    """Return the context `wanted`, else the current one. Raises Unreachable if it or its login plug-in is missing.

    As in kubectl, the first file that contains a name or sets current-context decides, and empty files do not count.
    """
    files = [_read_config(path) for path in _paths(named) if path.exists()]
    contexts, clusters, users = (_merged(one[kind] for one in files) for kind in _KINDS)
    current = next((one["current-context"] for one in files if one["current-context"]), "")
    context = wanted or current
    if context not in contexts:
        raise _no_context(named, wanted, current, sorted(contexts))
    chosen = contexts[context]
    of_cluster, of_user = str(chosen.get("cluster") or ""), str(chosen.get("user") or "")
    user = _logged_in(of_user, users.get(of_user, {}))
    _check_plugin(of_user, user.get("exec") or {})
    if not clusters.get(of_cluster, {}).get("server"):
        what = f"cluster {of_cluster} sets no server" if of_cluster else f"context {context} names no cluster"
        raise Unreachable(f"{named}: {what}", "download the kubeconfig again, or --context NAME of another context")
    cluster = {**clusters[of_cluster], "server": _address(of_cluster, clusters[of_cluster], user)}
    proxy_url = cluster.pop("proxy-url", "")
    config = {
        "contexts": [{"name": context, "context": {"cluster": of_cluster, "user": of_user}}],
        "clusters": [{"name": of_cluster, "cluster": cluster}],
        "users": [{"name": of_user, "user": user}],
    }
    return Chosen(context, str(chosen.get("namespace") or "default"), config, proxy_url)


def _paths(named: str) -> list[Path]:
    return [Path(os.path.expanduser(path)) for path in named.split(os.pathsep) if path]  # noqa: PTH111


def _merged(maps: Iterable[Object]) -> dict[str, Any]:
    """Return all entries; the first of a name wins."""
    merged: dict[str, Any] = {}
    for one in maps:
        merged = {**one, **merged}
    return merged


def _read_config(path: Path) -> Object:
    """Return `current-context` and, for each of _KINDS, name -> entry. Raises Unreachable."""
    try:
        found = first_document(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Unreachable(f"kubeconfig {path} cannot be read: {error.strerror}", f"chmod u+r {path}") from error
    except ValueError as error:
        what = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"{error}"
        raise Unreachable(f"kubeconfig {path}: {what}", "correct it until kubectl config view works") from error
    if not isinstance(found, (dict, type(None))):
        raise _wrong(path, "it does not have the form of a kubeconfig", "download the kubeconfig again")
    config = found or {}
    current = _text(path, "current-context", config.get("current-context"))
    return {"current-context": current, **{kind: _entries(path, config, kind) for kind in _KINDS}}


def _entries(path: Path, config: Object, kind: str) -> dict[str, dict[str, Any]]:
    """Return name -> entry of one list. An entry without a name has the empty one, as in Go."""
    listed = [] if config.get(kind) is None else config[kind]
    if not isinstance(listed, list):
        raise _wrong(path, f"{kind} is not a list", f"write {kind}: and below it items that begin with - name:")
    entries: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(listed):
        place = f"{kind}[{number}]"
        if not isinstance(item, (dict, type(None))):
            raise _wrong(path, f"{place} is not a map", "write name: NAME in it")
        name = _text(path, f"{place}.name", as_map(item).get("name"))
        entry = _entry(path, f"{place}.{_KINDS[kind]}", as_map(item).get(_KINDS[kind]))
        if entries.setdefault(name, entry) is not entry:
            raise _wrong(path, f"{kind} contains the name {name} twice", f"remove one of the two from {kind}")
    return entries


def _entry(path: Path, place: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, (dict, type(None))):
        raise _wrong(path, f"{place} is not a map", "write KEY: VALUE lines in it")
    entry = {key: value for key, value in (found or {}).items() if value is not None and value != ""}
    for key in entry.keys() & set(_TEXTS):
        _text(path, f"{place}.{key}", entry[key])
    entry |= {key: str(path.absolute().parent / entry[key]) for key in _FILES if key in entry}
    plugin = as_map(entry.get("exec"))
    if "/" in str(plugin.get("command") or ""):
        entry["exec"] = {**plugin, "command": str(path.absolute().parent / str(plugin["command"]))}
    return entry


def _text(path: Path, place: str, value: Any) -> str:
    """Return a field of type string. The message does not contain the value, which may be a secret."""
    if not isinstance(value, (str, type(None))):
        key = place.rpartition(".")[2]
        raise _wrong(path, f"{place} is not text", f'put the value in double quotes: {key}: "..."')
    return value or ""


def _wrong(path: Path, what: str, fix: str) -> Unreachable:
    return Unreachable(f"kubeconfig {path}: {what}", fix)


def _logged_in(name: str, user: Object) -> dict[str, Any]:
    """Return a user whose token is that of tokenFile, which wins as in kubectl. Blanks around it do not count."""
    user, file = dict(user), user.get("tokenFile")
    if not file:
        if any(ord(sign) < 0x20 for sign in user.get("token", "")):
            raise Unreachable(f"user {name} in kubeconfig: token contains a line break", "write the token on one line")
        return user
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if "token" in user:
            return user
        why = getattr(error, "strerror", "") or "it is not UTF-8 text"
        fix = "log in again, or correct tokenFile: in kubeconfig"
        raise Unreachable(f"user {name} in kubeconfig: tokenFile {file} cannot be read: {why}", fix) from error
    if not token:
        raise Unreachable(f"user {name} in kubeconfig: tokenFile {file} is empty", "log in again")
    del user["tokenFile"]
    return {**user, "token": token}


def _address(name: str, cluster: Object, user: Object) -> str:
    """Return the server with its scheme. As in client-go, HOST:PORT is https if the kubeconfig sets TLS, else http."""
    server = str(cluster["server"])
    parts = urlsplit(server if has_host(server) else "")
    if not parts.scheme and "://" not in server:
        secure = cluster.get("insecure-skip-tls-verify") or not {*cluster, *user}.isdisjoint(_TLS)
        server = f"{'https' if secure else 'http'}://{server}"
        parts = urlsplit(server if has_host(server) else "")
        if parts.path.strip("/"):
            raise _bad_server(
                name, cluster["server"], "has a path and no scheme", f"server: https://{cluster['server']}"
            )
    if parts.scheme not in ("http", "https") or any(sign.isspace() for sign in server):
        raise _bad_server(name, cluster["server"], "is not a valid address", "server: https://HOST:PORT")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _bad_server(name: str, server: str, what: str, fix: str) -> Unreachable:
    return Unreachable(f'cluster {name} in kubeconfig: server: "{server}" {what}', f"write {fix}")


def _no_context(named: str, wanted: str | None, current: str, known: list[str]) -> Unreachable:
    names = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else "")
    if not known:
        return Unreachable(f"{named} contains no context", "download a kubeconfig from your site, or --kubeconfig FILE")
    if wanted:
        return Unreachable(f"context {wanted} is not in {named}", f"--context NAME with one of: {names}")
    what = f"the current context {current} is not in {named}" if current else f"{named} sets no current-context"
    return Unreachable(what, f"kubectl config use-context NAME, or --context NAME, with one of: {names}")


def _check_plugin(user: str, plugin: Object) -> None:
    """Raise Unreachable if the user's login plug-in is not installed."""
    command = str(plugin.get("command") or "")
    variables = {item["name"]: item["value"] for item in plugin.get("env") or ()}
    if command and not shutil.which(command, path=variables.get("PATH")):
        hint = " ".join(str(plugin.get("installHint") or "").split())
        fix = hint or f"install {command}, or add its folder to PATH, until kubectl get pods works"
        raise Unreachable(f"the login plug-in {command} of user {user} in kubeconfig is not installed", fix)


@contextlib.contextmanager
def own_errors(where: str) -> Iterator[None]:
    """Turn each error that the client raises or logs for a kubeconfig into one Unreachable."""
    heard: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]  # a Handler of one line
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except ClusterError:
        raise
    except (AttributeError, KeyError, TypeError):
        heard.append("it does not have the form of a kubeconfig")
    except Exception as error:  # the client lets through errors of YAML, JSON, files, ssl and subprocesses
        heard.append(_said(error))
    finally:
        root.removeHandler(handler)
    if heard:
        raise _unusable(where, heard[-1])


def _said(error: Exception) -> str:
    """Return what a library means, in plain words where its own are Python's."""
    match error:
        case ssl.SSLError():
            return "a certificate or key in it is not valid"
        case binascii.Error() | UnicodeError():
            return "a certificate, key or token in it is not valid base64 text"
        case OSError(strerror=str(words), filename=str(path)):
            return f"{path}: {words}"
    return str(error) or "it cannot be used"


def _unusable(where: str, words: str) -> Unreachable:
    if failed := _PLUGIN_FAILED.fullmatch(words):
        words = f"the login plug-in failed with exit code {failed[1]}" + (f": {failed[2]}" if failed[2] else "")
        fix = "log in again as your site documents it, until kubectl get pods works"
        return Unreachable(f"{where}: {redact(' '.join(words.split()))}", fix)
    if words.startswith("exec: failed to decode"):
        fix = "log in again as your site documents it, until kubectl get pods works"
        return Unreachable(f"{where}: the login plug-in printed something other than credentials", fix)
    fix = "correct the kubeconfig until kubectl config view and kubectl get pods work"
    return Unreachable(f"{where}: {redact(' '.join(words.split()))}", fix)
