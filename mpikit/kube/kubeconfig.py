# SPDX-License-Identifier: Apache-2.0
"""Choose the kubeconfig, context and namespace of a command."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes.config

from mpikit.errors import ClusterError, Unreachable
from mpikit.text.nested import Object
from mpikit.text.redaction import redact

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MOST_NAMES = 20  # of contexts in a message
_PLUGIN_FAILED = re.compile(r"exec: process returned (-?\d+)(?:\. )?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The context of a command and the namespace that it sets."""

    context: str
    namespace: str


def is_here(url: str) -> bool:
    """Return whether a server is on this machine. As in Go, proxies of the environment are not used for it."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def default_kubeconfig() -> str:
    """Return KUBECONFIG, else ~/.kube/config."""
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def has_file(named: str) -> bool:
    """Return whether one of the paths is a file. Raises Unreachable for a folder."""
    paths = [Path(path).expanduser() for path in named.split(os.pathsep) if path]
    for path in paths:
        if path.is_dir():
            inside = path / "config"
            fix = f"--kubeconfig {inside if inside.is_file() else 'FILE'}"
            raise Unreachable(f"kubeconfig {path} is a folder, not a file", fix)
    return any(path.is_file() for path in paths)


def choose(named: str, wanted: str | None) -> Chosen:
    """Return the context `wanted`, else the current one. Raises Unreachable if it or its login plug-in is missing.

    As in kubectl, the first file that sets current-context decides; the client would take the last.
    """
    files = list(kubernetes.config.kube_config.KubeConfigMerger(named).config_files.items())
    contexts = {str(item["name"]): item for _, one in files for item in reversed(one.get("contexts") or [])}
    current = next((str(one["current-context"]) for _, one in files if one.get("current-context")), "")
    context = wanted or current
    if context not in contexts:
        raise _no_context(named, wanted, current, sorted(contexts))
    chosen = contexts[context].get("context") or {}
    for path, one in files:
        user = next((item for item in one.get("users") or () if item["name"] == chosen.get("user")), None)
        if user is not None:
            _check_plugin(user, Path(path).parent)
            break
    return Chosen(context, str(chosen.get("namespace") or "default"))


def _no_context(named: str, wanted: str | None, current: str, known: list[str]) -> Unreachable:
    names = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else "")
    if not known:
        return Unreachable(f"{named} contains no context", "download a kubeconfig from your site, or --kubeconfig FILE")
    if wanted:
        return Unreachable(f"context {wanted} is not in {named}", f"--context NAME with one of: {names}")
    what = f"the current context {current} is not in {named}" if current else f"{named} sets no current-context"
    return Unreachable(what, f"kubectl config use-context NAME, or --context NAME, with one of: {names}")


def _check_plugin(user: Object, folder: Path) -> None:
    """Raise Unreachable if the user's login plug-in is not installed."""
    plugin = (user.get("user") or {}).get("exec") or {}
    command = str(plugin.get("command") or "")
    variables = {item["name"]: item["value"] for item in plugin.get("env") or ()}
    found = (folder / command).is_file() if "/" in command else shutil.which(command, path=variables.get("PATH"))
    if command and not found:
        hint = " ".join(str(plugin.get("installHint") or "").split())
        fix = hint or f"install {command}, or add its folder to PATH, until kubectl get pods works"
        raise Unreachable(f"the login plug-in {command} of user {user['name']} in kubeconfig is not installed", fix)


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
        heard.append(f"{error}" or type(error).__name__)
    finally:
        root.removeHandler(handler)
    if heard:
        raise _unusable(where, heard[-1])


def _unusable(where: str, words: str) -> Unreachable:
    if failed := _PLUGIN_FAILED.fullmatch(words):
        words = f"the login plug-in failed with exit code {failed[1]}" + (f": {failed[2]}" if failed[2] else "")
        fix = "log in again as your site documents it, until kubectl get pods works"
        return Unreachable(f"{where}: {redact(' '.join(words.split()))}", fix)
    fix = "correct the kubeconfig until kubectl config view and kubectl get pods work"
    return Unreachable(f"{where}: {redact(' '.join(words.split()))}", fix)
