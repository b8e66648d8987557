# SPDX-License-Identifier: Apache-2.0
"""Which kubeconfig, context and namespace a command uses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes.config

from mpikit.errors import ClusterError, Unreachable
from mpikit.text.nested import Object
from mpikit.text.redaction import redact

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def is_here(url: str) -> bool:
    """Whether a server is on this machine: no proxy of the environment is asked for it, as Go has it."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _files_of(named: str) -> list[Object]:
    return list(kubernetes.config.kube_config.KubeConfigMerger(named).config_files.values())


def current_context(named: str) -> str | None:
    """That of the first file that names one, as kubectl has it; the client would take the last."""
    return next((str(one["current-context"]) for one in _files_of(named) if one.get("current-context")), None)


def context_namespace(named: str, context: str | None) -> str:
    contexts = [item for one in _files_of(named) for item in one.get("contexts") or ()]
    chosen = next(item["context"] for item in contexts if item["name"] == context)
    return str(chosen.get("namespace") or "default")


@contextlib.contextmanager
def own_errors(where: str) -> Iterator[None]:
    """Turn whatever the client makes of a kubeconfig into one line of ours; it logs some faults and goes on."""
    heard: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]  # a Handler of one line
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:  # the client lets through errors of YAML, JSON, files, ssl and subprocesses
        heard.append(f"{error}" or type(error).__name__)
    finally:
        root.removeHandler(handler)
    if heard:
        reason = redact(" ".join(heard[-1].split()))
        raise Unreachable(f"{where}: {reason}", "kubectl config view, kubectl get pods: both must work first")
