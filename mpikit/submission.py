# SPDX-License-Identifier: Apache-2.0
"""A job reaches the cluster: all of its objects or none, and never twice. What applying it again would change."""

from __future__ import annotations

import contextlib
import copy
import difflib
import hashlib
import json
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mpikit.answers import Object
from mpikit.api import CONFIG_MAP, MPIJOB, apply, delete, find, kind_of, merge_patch, with_metadata
from mpikit.cluster import Cluster
from mpikit.errors import ClusterError, Conflict, Interrupted, JobError, KitError, Unknown
from mpikit.objects import MPIJob, another_name, at
from mpikit.quoting import yaml_filter
from mpikit.reader import read_all
from mpikit.snapshot import read_snapshot
from mpikit.status import Status, status_of

SUBMISSION = "mpikit/submission"  # annotation that tells our own job, after a broken connection, from another's
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TRIES = 3  # of a creation whose outcome is not known
# What the server itself writes, or what no manifest says.
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


def objects_of(text: str) -> list[Object]:
    """The objects of a rendered manifest."""
    return [document.data for document in read_all(text, "the rendered manifest")]


def submit(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> list[str]:
    """Create all objects or none; a line for each. JobError if a job of the name stands in the way."""
    name = next(str(item["metadata"]["name"]) for item in manifests if item["kind"] == "MPIJob")
    if find(cluster, MPIJOB, namespace, name):
        return [_already_there(cluster, manifests, namespace, name)]
    for manifest in manifests:
        _dry_run(cluster, manifest, namespace)
    own = {SUBMISSION: uuid.uuid4().hex}
    done: list[Object] = []
    with _held_interrupts() as interrupted:
        try:
            for manifest in manifests:
                if interrupted:
                    raise Interrupted("interrupted before the job was made")
                if made := _create(cluster, manifest, namespace, own):
                    done.append(made)
        except Unknown:
            raise  # the job may be there and needs its ConfigMap
        except KitError as error:
            if left := _take_back(cluster, namespace, done):
                fix = f"python generate.py delete {name} -n {namespace}"
                raise type(error)(f"{error}\n  left behind: {', '.join(left)}; {fix} removes it") from error
            raise
    lines = [f"{_address(item)} {'created' if _made(item, done) else 'unchanged'}" for item in manifests]
    if interrupted:
        raise Interrupted(f"{', '.join(lines)}; interrupted after that\n  fix: python generate.py delete {name}")
    return lines


def _made(manifest: Object, done: Sequence[Object]) -> bool:
    return manifest["metadata"]["name"] in [item["metadata"]["name"] for item in done]


def _address(manifest: Object) -> str:
    kind = kind_of(manifest)
    return f"{kind.plural.removesuffix('s')}{f'.{kind.group}' if kind.group else ''}/{manifest['metadata']['name']}"


def _dry_run(cluster: Cluster, manifest: Object, namespace: str) -> None:
    """Ask whether the server would take an object."""
    try:
        apply(cluster, manifest, namespace, dry_run=True, create=manifest["kind"] == "MPIJob")
    except Conflict as conflict:
        raise _taken(manifest, namespace, conflict) from conflict
    except ClusterError as error:
        raise _explained(error, manifest, namespace) from error


def _explained(error: ClusterError, manifest: Object, namespace: str) -> ClusterError:
    """The server's refusal with what can be done about it; nothing has been made yet."""
    text, name = str(error), manifest["metadata"]["name"]
    if "\n  fix:" in text:
        return error
    fix = "python generate.py doctor looks at everything that the job needs"
    if "namespaces" in text and "not found" in text:
        fix = f"set namespace: (now {namespace}), or have it made: kubectl create namespace {namespace}"
    elif "cannot" in text:
        fix = (
            f"ask for the ClusterRole kubeflow-mpijobs-edit in namespace {namespace}; the built-in edit has no MPIJobs"
        )
    return type(error)(f"{manifest['kind']} {name} is refused: {text}\n  fix: {fix}; nothing was made")


def _create(cluster: Cluster, manifest: Object, namespace: str, own: Object) -> Object | None:
    """The object that was made; None if a ConfigMap of this name, and so of this content, was there."""
    marked = with_metadata(manifest, annotations={**(at(manifest, "metadata", "annotations") or {}), **own})
    doubt = False
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            return apply(cluster, marked, namespace, dry_run=False, create=True)
        except (Unknown, Conflict) as error:
            # The answer is lost, or an earlier try was done after all: the object itself tells whose it is.
            doubt = doubt or isinstance(error, Unknown)
            found = _looked_up(cluster, manifest, namespace, error)
            if found and at(found, "metadata", "annotations", SUBMISSION) == own[SUBMISSION]:
                return found
            if found and kind_of(manifest) is CONFIG_MAP:
                apply(cluster, marked, namespace, dry_run=False, create=False)  # so that who made it leaves it
                return None
            if found:
                raise _taken(manifest, namespace, error) from error
            if last:
                raise _in_doubt(manifest, namespace, error) from error
        except ClusterError as error:
            if doubt:  # an earlier try may still be done
                raise _in_doubt(manifest, namespace, error) from error
            raise
    raise AssertionError("the last try returns or raises")


def _looked_up(cluster: Cluster, manifest: Object, namespace: str, error: ClusterError) -> Object | None:
    try:
        return find(cluster, kind_of(manifest), namespace, str(manifest["metadata"]["name"]))
    except ClusterError:
        raise _in_doubt(manifest, namespace, error) from error


def _in_doubt(manifest: Object, namespace: str, error: ClusterError) -> Unknown:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    status = f"python generate.py status {name} -n {namespace} tells; " if kind == "MPIJob" else ""
    fix = f"{status}submitting again once the server answers makes no second job"
    return Unknown(f"whether {kind} {name} was made is not known: {error}\n  fix: {fix}")


def _taken(manifest: Object, namespace: str, error: Exception) -> JobError:
    name = manifest["metadata"]["name"]
    return JobError(
        f"{manifest['kind']} {name} was made by someone else a moment ago ({error})\n"
        f"  fix: python generate.py status {name} -n {namespace} shows it; --set name=... submits under another name"
    )


def _take_back(cluster: Cluster, namespace: str, done: Sequence[Object]) -> list[str]:
    """Remove what this submission has made, unless another has laid hands on it since; what could not be removed.

    It is only ever ConfigMaps, because the job comes last.
    """
    left = []
    for metadata in (item["metadata"] for item in done):
        try:
            delete(cluster, CONFIG_MAP, namespace, metadata["name"], metadata["uid"], metadata["resourceVersion"])
        except ClusterError:  # the first error is the one to tell
            left.append(f"ConfigMap {metadata['name']}")
    return left


def _already_there(cluster: Cluster, manifests: Sequence[Object], namespace: str, name: str) -> str:
    """A line if this very job is there and not finished; JobError with the choices otherwise."""
    snapshot = read_snapshot(cluster, namespace, name)
    status = status_of(snapshot)
    assert snapshot.job
    manifest = next(item for item in manifests if item["kind"] == "MPIJob")
    same = change_of(cluster, manifest, namespace).action == "same"
    if same and not status.finished and not snapshot.job.deleted:
        return f"mpijob.kubeflow.org/{name} unchanged: {status.verdict}; it is there already with these values"
    raise JobError(_choices(snapshot.job, status, same))


def _choices(job: MPIJob, status: Status, same: bool) -> str:
    """What stands in the way, and every way on."""
    where = f"-n {job.namespace}"
    delete_it = f"python generate.py delete {job.name} {where}"
    if job.deleted:
        fix = f"python generate.py wait {job.name} {where} --for deleted, then submit again"
        return f"MPIJob {job.name} is still being deleted\n  fix: {fix}"
    values = "the same values" if same else "other values (python generate.py diff shows them)"
    what = f"MPIJob {job.name} is there already with {values}: {status.verdict}"
    if status.finished:
        what += "; a finished job is not run again by applying it"
    else:
        what += f", {status.pods[0]} of {status.pods[1]} pods run; live pods would not take up changes"
    new = f"submit under another name: --set name={another_name(job.name)}"
    return f"{what}\n  fix: {new}\n   or: {delete_it}, then submit again"


@contextlib.contextmanager
def _held_interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted, and acted on between two steps; every step has a time limit."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def changes(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> list[Change]:
    """What applying the objects would change, by the server's own dry run."""
    return [
        change_of(cluster, manifest, namespace, _kit_in_use(cluster, manifests, namespace)) for manifest in manifests
    ]


def _kit_in_use(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> str:
    """Name of the ConfigMap whose scripts the live job runs, empty if there is none; its hash is in its name."""
    name = next(str(item["metadata"]["name"]) for item in manifests if item["kind"] == "MPIJob")
    job = find(cluster, MPIJOB, namespace, name)
    volumes = at(MPIJob(job).template("Launcher"), "spec", "volumes") if job else None
    names = [str(at(volume, "configMap", "name")) for volume in volumes or () if volume.get("name") == "kit"]
    return names[0] if names else ""


def change_of(cluster: Cluster, manifest: Object, namespace: str, kit: str = "") -> Change:
    """What applying one object would change; a new ConfigMap is compared with the `kit` in use."""
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
        raise _explained(error, manifest, namespace) from error
    if live is None and kit and kind is CONFIG_MAP:
        live = find(cluster, kind, namespace, kit)
    return Change(kind.name, name, _comparable(live) if live else None, _comparable(merged))


def _three_way(last: Any, new: Any) -> Any:
    """A merge patch that makes of an object what `kubectl apply` would: keys that are no longer said become null."""
    if not isinstance(last, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in last if key not in new and key not in ("status",)}
    return gone | {key: _three_way(last.get(key), value) for key, value in new.items()}


def _comparable(item: Object) -> Object:
    """An object without what the server itself writes."""
    kept = copy.deepcopy({key: value for key, value in item.items() if key != "status"})
    for key in _SERVERS_OWN:
        kept["metadata"].pop(key, None)
    (kept["metadata"].get("annotations") or {}).pop(LAST_APPLIED, None)
    return kept


def _lines(item: Object) -> list[str]:
    """An object as lines of YAML; scripts line by line, bytes as their size and hash."""
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
