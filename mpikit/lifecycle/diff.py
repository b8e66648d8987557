# SPDX-License-Identifier: Apache-2.0
"""Find what submitting a job would change, by the server's own dry run."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpikit.errors import ClusterError, NotFound
from mpikit.kube.answers import Object
from mpikit.kube.api import CONFIG_MAP, MPIJOB, apply, find, kind_of, merge_patch, with_metadata
from mpikit.kube.client import Cluster
from mpikit.kube.rejections import sentence, understand
from mpikit.kube.resources import MPIJob
from mpikit.text.nested import at
from mpikit.text.quoting import yaml_filter

SUBMISSION = "mpikit/submission"  # annotation that identifies our own job after a broken connection


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


# What the server writes, or what no manifest contains.
_SERVERS_OWN = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")


@dataclass(frozen=True, slots=True)
class Change:
    """What applying one object would do."""

    kind: str
    name: str
    live: Object | None
    merged: Object

    @property
    def action(self) -> str:
        """create, change or same."""
        return "create" if self.live is None else "same" if self.live == self.merged else "change"

    @property
    def diff(self) -> str:
        """Unified diff of both as YAML; empty if they are the same."""
        before = _lines(self.live) if self.live else []
        place = f"{self.kind}/{self.name}"
        return "".join(difflib.unified_diff(before, _lines(self.merged), f"live/{place}", f"merged/{place}"))


NOTHING = "; nothing was created"
# Rejections of an object itself, not of the pods that follow from it; each has its own fix.
_UNDERSTOOD = ("WebhookDenied", "WebhookFailed", "PolicyDenied", "NamespaceTerminating", "QuotaExceeded")


def explained(error: ClusterError, manifest: Object, namespace: str) -> ClusterError:
    """Add a fix to the server's rejection of an object that has not been created yet."""
    if error.hint:
        return error
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    refusal = understand(error.message, namespace, name)
    fix = "run python generate.py doctor, which checks everything that the job needs"
    if refusal.reason in _UNDERSTOOD:
        fix = refusal.advice
    elif isinstance(error, NotFound) and error.kind == "namespaces":
        fix = f"set namespace: (now {namespace}), or create it: kubectl create namespace {namespace}"
    elif "cannot" in error.message:
        role = "kubeflow-mpijobs-edit"
        fix = f"ask for ClusterRole {role} in namespace {namespace}; the built-in role edit has no rights on MPIJobs"
    told = sentence(kind, name, namespace, refusal, error.message)
    return type(error)(told, f"{fix}{NOTHING}")


def changes(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> list[Change]:
    """Return what applying the objects would change, by the server's own dry run."""
    return [
        change_of(cluster, manifest, namespace, _kit_in_use(cluster, manifests, namespace)) for manifest in manifests
    ]


def _kit_in_use(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> str:
    """Return the name of the ConfigMap whose scripts the live job runs; empty if there is none."""
    name = next(str(item["metadata"]["name"]) for item in manifests if item["kind"] == "MPIJob")
    job = find(cluster, MPIJOB, namespace, name)
    volumes = at(MPIJob(job).template("Launcher"), "spec", "volumes") if job else None
    names = [str(at(volume, "configMap", "name")) for volume in volumes or () if volume.get("name") == "kit"]
    return names[0] if names else ""


def change_of(cluster: Cluster, manifest: Object, namespace: str, kit: str = "") -> Change:
    """Return what applying one object would change; a new ConfigMap is compared with the `kit` in use."""
    kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
    live = find(cluster, kind, namespace, name)
    try:
        if live is None:
            merged = apply(cluster, manifest, namespace, dry_run=True, create=False)
        elif last := at(live, "metadata", "annotations", LAST_APPLIED):
            patch = _three_way(json.loads(last), with_metadata(manifest, namespace=namespace))
            merged = merge_patch(cluster, kind, namespace, name, patch)
        else:
            mark = at(live, "metadata", "annotations", SUBMISSION)
            notes = {**(at(manifest, "metadata", "annotations") or {}), **({SUBMISSION: mark} if mark else {})}
            marked = with_metadata(manifest, annotations=notes) if notes else manifest
            merged = apply(cluster, marked, namespace, dry_run=True, create=False, force=True)
    except ClusterError as error:
        raise explained(error, manifest, namespace) from error
    if live is None and kit and kind is CONFIG_MAP:
        live = find(cluster, kind, namespace, kit)
    return Change(kind.name, name, _comparable(live) if live else None, _comparable(merged))


def _three_way(last: Any, new: Any) -> Any:
    """Return the merge patch that `kubectl apply` would send: removed keys become null."""
    if not isinstance(last, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in last if key not in new and key not in ("status",)}
    return gone | {key: _three_way(last.get(key), value) for key, value in new.items()}


def _comparable(item: Object) -> Object:
    """Return an object without the fields that the server writes."""
    kept = copy.deepcopy({key: value for key, value in item.items() if key != "status"})
    for key in _SERVERS_OWN:
        kept["metadata"].pop(key, None)
    (kept["metadata"].get("annotations") or {}).pop(LAST_APPLIED, None)
    return kept


def _lines(item: Object) -> list[str]:
    """Return an object as lines of YAML; scripts line by line, bytes as their size and hash."""
    scripts = item.get("data") or {} if item.get("kind") == "ConfigMap" else {}
    binary = {
        name: f"{len(text)} characters of base64, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        for name, text in (item.get("binaryData") or {}).items()
    }
    shown = {**item, **({"data": dict.fromkeys(scripts, "see below")} if scripts else {})}
    lines = yaml_filter({**shown, **({"binaryData": binary} if binary else {})}).splitlines()
    for name, text in sorted(scripts.items()):
        lines += [f"# {name}", *text.splitlines()]
    return [f"{line}\n" for line in lines]
