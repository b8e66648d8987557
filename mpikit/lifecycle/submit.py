# SPDX-License-Identifier: Apache-2.0
"""Create a job on the cluster: all of its objects or none, and never twice."""

from __future__ import annotations

import contextlib
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence

from mpikit.errors import ClusterError, Conflict, Interrupted, JobError, KitError, Unknown
from mpikit.kube.answers import Object
from mpikit.kube.api import CONFIG_MAP, MPIJOB, apply, delete, find, kind_of, with_metadata
from mpikit.kube.client import Cluster
from mpikit.kube.resources import MPIJob
from mpikit.lifecycle.diff import NOTHING, SUBMISSION, change_of, explained
from mpikit.status.snapshot import read_snapshot
from mpikit.status.verdict import Status, status_of
from mpikit.text.nested import at
from mpikit.text.units import another_name

TRIES = 3  # to create an object, when the outcome is unknown


def submit(cluster: Cluster, manifests: Sequence[Object], namespace: str) -> list[str]:
    """Create all objects or none; return a line for each. Raises JobError if the name is taken."""
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
                    raise Interrupted("interrupted before the job was created")
                if made := _create(cluster, manifest, namespace, own):
                    done.append(made)
        except Unknown:
            raise  # the job may exist and needs its ConfigMap
        except KitError as error:
            if left := _take_back(cluster, namespace, done):
                told = f"left behind: {', '.join(left)}; python generate.py delete {name} -n {namespace} removes it"
                hint = error.hint.removesuffix(NOTHING)
                raise type(error)(f"{error.message}\n  {told}", hint) from error
            raise
    lines = [f"{_address(item)} {'created' if _made(item, done) else 'unchanged'}" for item in manifests]
    if interrupted:
        raise Interrupted(f"{', '.join(lines)}; interrupted after that", f"python generate.py delete {name}")
    return lines


def _made(manifest: Object, done: Sequence[Object]) -> bool:
    return manifest["metadata"]["name"] in [item["metadata"]["name"] for item in done]


def _address(manifest: Object) -> str:
    kind = kind_of(manifest)
    return f"{kind.plural.removesuffix('s')}{f'.{kind.group}' if kind.group else ''}/{manifest['metadata']['name']}"


def _dry_run(cluster: Cluster, manifest: Object, namespace: str) -> None:
    """Ask the server with a dry run whether it accepts an object."""
    try:
        apply(cluster, manifest, namespace, dry_run=True, create=manifest["kind"] == "MPIJob")
    except Conflict as conflict:
        raise _taken(manifest, namespace, conflict) from conflict
    except ClusterError as error:
        raise explained(error, manifest, namespace) from error


def _create(cluster: Cluster, manifest: Object, namespace: str, own: Object) -> Object | None:
    """Return the created object, or None if a ConfigMap of this name, and so of this content, exists."""
    marked = with_metadata(manifest, annotations={**(at(manifest, "metadata", "annotations") or {}), **own})
    doubt = False
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            return apply(cluster, marked, namespace, dry_run=False, create=True)
        except (Unknown, Conflict) as error:
            # The answer is lost, or an earlier try succeeded after all: the annotation shows whose object it is.
            doubt = doubt or isinstance(error, Unknown)
            found = _looked_up(cluster, manifest, namespace, error)
            if found and at(found, "metadata", "annotations", SUBMISSION) == own[SUBMISSION]:
                return found
            if found and kind_of(manifest) is CONFIG_MAP:
                apply(cluster, marked, namespace, dry_run=False, create=False)  # so that its creator does not delete it
                return None
            if found:
                raise _taken(manifest, namespace, error) from error
            if last:
                raise _in_doubt(manifest, namespace, error) from error
        except ClusterError as error:
            if doubt:  # an earlier try may still succeed
                raise _in_doubt(manifest, namespace, error) from error
            raise explained(error, manifest, namespace) from error
    raise AssertionError("the last try returns or raises")


def _looked_up(cluster: Cluster, manifest: Object, namespace: str, error: ClusterError) -> Object | None:
    try:
        return find(cluster, kind_of(manifest), namespace, str(manifest["metadata"]["name"]))
    except ClusterError:
        raise _in_doubt(manifest, namespace, error) from error


def _in_doubt(manifest: Object, namespace: str, error: ClusterError) -> Unknown:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    status = f"python generate.py status {name} -n {namespace} shows it; " if kind == "MPIJob" else ""
    fix = f"{status}submit again once the server answers: this does not create a second job"
    return Unknown(f"{kind} {name} may or may not have been created: {error}", fix)


def _taken(manifest: Object, namespace: str, error: Exception) -> JobError:
    name = manifest["metadata"]["name"]
    return JobError(
        f"{manifest['kind']} {name} was created by someone else a moment ago ({error})",
        f"python generate.py status {name} -n {namespace} shows it; --set name=... submits under another name",
    )


def _take_back(cluster: Cluster, namespace: str, done: Sequence[Object]) -> list[str]:
    """Delete what this submission created, unless it has changed since; return what could not be deleted.

    These are ConfigMaps only, because the job comes last.
    """
    left = []
    for metadata in (item["metadata"] for item in done):
        try:
            delete(cluster, CONFIG_MAP, namespace, metadata["name"], metadata["uid"], metadata["resourceVersion"])
        except ClusterError:  # the first error is reported
            left.append(f"ConfigMap {metadata['name']}")
    return left


def _already_there(cluster: Cluster, manifests: Sequence[Object], namespace: str, name: str) -> str:
    """Return a line if this same job exists and is not finished. Raises JobError with the choices otherwise."""
    snapshot = read_snapshot(cluster, namespace, name)
    status = status_of(snapshot)
    assert snapshot.job
    manifest = next(item for item in manifests if item["kind"] == "MPIJob")
    same = change_of(cluster, manifest, namespace).action == "same"
    if same and not status.finished and not snapshot.job.deleted:
        return f"mpijob.kubeflow.org/{name} unchanged: {status.verdict}; it already exists with these values"
    raise _in_the_way(snapshot.job, status, same)


def _in_the_way(job: MPIJob, status: Status, same: bool) -> JobError:
    """Explain which job exists already, and the choices."""
    where = f"-n {job.namespace}"
    delete_it = f"python generate.py delete {job.name} {where}"
    if job.deleted:
        fix = f"python generate.py wait {job.name} {where} --for deleted, then submit again"
        return JobError(f"MPIJob {job.name} is still being deleted", fix)
    values = "the same values" if same else "other values (python generate.py diff shows them)"
    what = f"MPIJob {job.name} already exists with {values}: {status.verdict}"
    if status.finished:
        what += "; a finished job is not run again by applying it"
    else:
        what += f", {status.pods[0]} of {status.pods[1]} pods run; changes do not reach running pods"
    new = f"submit under another name: --set name={another_name(job.name)}"
    return JobError(what, f"{new}\n   or: {delete_it}, then submit again")


@contextlib.contextmanager
def _held_interrupts() -> Iterator[list[int]]:
    """Note Ctrl-C, which takes effect between two steps; every step has a time limit."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
