# SPDX-License-Identifier: Apache-2.0
"""Read, list, watch, apply and delete objects on an API server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mpikit.errors import Conflict, Gone, NotFound, Unreachable
from mpikit.kube.answers import Lines, Object, parse
from mpikit.kube.client import Call, Cluster
from mpikit.text.redaction import redact

MANAGER = "mpikit"  # the field manager of server-side apply
LATE_SECONDS = 1.0  # a watch that a server does not end by itself is ended so much later
PAGE = 200  # objects of one answer: a page of pods is about 2 MB
APPLY = "application/apply-patch+yaml"  # JSON is YAML
NO_VERSION = "1"  # no object has it: etcd's first revision belongs to the server


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and where the server keeps it."""

    name: str
    plural: str
    prefix: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group; empty for the core."""
        return self.prefix.split("/")[2] if self.prefix.startswith("/apis/") else ""

    def path(self, namespace: str | None = None, name: str | None = None, *more: str) -> str:
        """Return the path of one object, of all in a namespace, or of all in all namespaces."""
        place = ("namespaces", namespace) if self.namespaced and namespace else ()
        return "/".join([self.prefix, *place, self.plural, *((name,) if name else ()), *more])


MPIJOB = Kind("MPIJob", "mpijobs", "/apis/kubeflow.org/v2beta1")
JOB = Kind("Job", "jobs", "/apis/batch/v1")
POD = Kind("Pod", "pods", "/api/v1")
SERVICE = Kind("Service", "services", "/api/v1")
CONFIG_MAP = Kind("ConfigMap", "configmaps", "/api/v1")
EVENT = Kind("Event", "events", "/api/v1")
QUOTA = Kind("ResourceQuota", "resourcequotas", "/api/v1")
SERVICE_ACCOUNT = Kind("ServiceAccount", "serviceaccounts", "/api/v1")
SECRET = Kind("Secret", "secrets", "/api/v1")
CLAIM = Kind("PersistentVolumeClaim", "persistentvolumeclaims", "/api/v1")
NAMESPACE = Kind("Namespace", "namespaces", "/api/v1", namespaced=False)
NODE = Kind("Node", "nodes", "/api/v1", namespaced=False)
LEASE = Kind("Lease", "leases", "/apis/coordination.k8s.io/v1")
DEPLOYMENT = Kind("Deployment", "deployments", "/apis/apps/v1")
CRD = Kind("CustomResourceDefinition", "customresourcedefinitions", "/apis/apiextensions.k8s.io/v1", namespaced=False)


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """Return the kind of an object that the kit renders."""
    return {"MPIJob": MPIJOB, "ConfigMap": CONFIG_MAP}[str(manifest["kind"])]


def read(cluster: Cluster, kind: Kind, namespace: str | None, name: str) -> Object:
    """Return one object. Raises NotFound."""
    return cluster.json(Call("GET", kind.path(namespace, name)))


def find(cluster: Cluster, kind: Kind, namespace: str | None, name: str) -> Object | None:
    """Return one object, or None if it does not exist."""
    try:
        return read(cluster, kind, namespace, name)
    except NotFound as missing:
        if missing.no_api:
            raise
        return None


def exists(cluster: Cluster, kind: Kind, namespace: str | None, name: str) -> bool:
    """Return whether an object exists; its content, such as a Secret's, is not read."""
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    with contextlib.suppress(NotFound):
        cluster.json(Call("GET", kind.path(namespace, name), accept=accept))
        return True
    return False


def find_all(
    cluster: Cluster, kind: Kind, namespace: str | None, labels: str = "", fields: str = ""
) -> Iterator[Object]:
    """Yield all objects of a kind, page by page; start again once if the server forgets the list half-way."""
    query = {"limit": str(PAGE)}
    query |= {"labelSelector": labels} if labels else {}
    query |= {"fieldSelector": fields} if fields else {}
    seen: set[str] = set()
    token, restarted = "", False
    while True:
        more = {"continue": token} if token else {}
        try:
            page = cluster.json(Call("GET", kind.path(namespace), {**query, **more}))
        except Gone:
            if restarted:
                raise
            token, restarted = "", True
            continue
        for item in page.get("items") or ():
            metadata = item.setdefault("metadata", {})
            if not metadata.get("name"):
                raise Unreachable(
                    f"{kind.path(namespace)}: an item has no name, so this is not a list of an API server"
                )
            metadata.setdefault("namespace", namespace or "")
            uid = str(metadata.get("uid") or metadata["name"])
            if uid not in seen:
                seen.add(uid)
                yield item
        token = str((page.get("metadata") or {}).get("continue") or "")
        if not token:
            return


def list_with_version(cluster: Cluster, kind: Kind, namespace: str, fields: str) -> tuple[list[Object], str]:
    """Return a short list and the version from which a watch continues."""
    page = cluster.json(Call("GET", kind.path(namespace), {"fieldSelector": fields}))
    version = str((page.get("metadata") or {}).get("resourceVersion") or "")
    if not version:
        raise Unreachable(
            f"{kind.path(namespace)}: the list has no resourceVersion, so this is not a list of an API server"
        )
    return list(page.get("items") or ()), version


def watch(
    cluster: Cluster, kind: Kind, namespace: str, fields: str, version: str, seconds: int
) -> Iterator[tuple[str, Object]]:
    """(ADDED, MODIFIED, DELETED or BOOKMARK, object) until `seconds` are over; Gone if `version` is too old."""
    until = cluster.clock() + seconds + LATE_SECONDS
    query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "fieldSelector": fields}
    call = Call("GET", kind.path(namespace), query | {"timeoutSeconds": str(seconds)})
    with cluster.stream(call, idle_seconds=seconds + cluster.request_seconds, until=until) as pieces:
        for line in whole_lines(pieces, call.path):
            try:
                event = parse(line)
                what, item = str(event["type"]), dict(event["object"])
                if what != "ERROR":
                    str(item["metadata"]["resourceVersion"])
            except (ValueError, KeyError, TypeError) as error:
                raise Unreachable(f"{call.path}: the watch broke off") from error
            if what == "ERROR":
                if item.get("code") == 410:
                    raise Gone(redact(str(item.get("message"))))
                raise Unreachable(redact(f"{call.path}: {item.get('message')}"))
            yield what, item


def whole_lines(pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
    """Yield the lines that are not blank; what follows the last line end may be half a line and is dropped."""
    lines = Lines()
    for piece in pieces:
        try:
            found = lines.add(piece)
        except ValueError as error:
            raise Unreachable(f"{path}: {error}") from error
        yield from (line for line in found if line.strip())


def apply(
    cluster: Cluster, manifest: Object, namespace: str, *, dry_run: bool, create: bool, force: bool = False
) -> Object:
    """Apply one object on the server as the field manager `mpikit`; return the object that results.

    With `create`, the server creates it or answers Conflict if the name exists, in one step: an existing object never
    has NO_VERSION, and a new one has no version yet.
    """
    body = with_metadata(manifest, namespace=namespace, **({"resourceVersion": NO_VERSION} if create else {}))
    query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
    query |= {"dryRun": "All"} if dry_run else {}
    query |= {"force": "true"} if force else {}
    path = kind_of(manifest).path(namespace, str(manifest["metadata"]["name"]))
    return cluster.json(Call("PATCH", path, query, body, APPLY, repeatable=dry_run or not create))


def with_metadata(manifest: Object, **fields: object) -> Object:
    """Return the manifest with more metadata."""
    return {**manifest, "metadata": {**manifest["metadata"], **fields}}


def merge_patch(
    cluster: Cluster, kind: Kind, namespace: str, name: str, patch: Object, *, dry_run: bool = True
) -> Object:
    """Return what a JSON merge patch makes of an object, or would make of it."""
    query = {"fieldManager": MANAGER} | ({"dryRun": "All"} if dry_run else {})
    return cluster.json(Call("PATCH", kind.path(namespace, name), query, patch, "application/merge-patch+json"))


def create(cluster: Cluster, kind: Kind, namespace: str | None, body: Object, *, dry_run: bool = False) -> Object:
    """Create an object, or ask with a dry run whether the server accepts it."""
    query = {"dryRun": "All"} if dry_run else {}
    return cluster.json(Call("POST", kind.path(namespace), query, body, repeatable=dry_run))


def review(cluster: Cluster, attributes: Mapping[str, str]) -> bool:
    """Return whether the user is allowed to do this (SelfSubjectAccessReview)."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": dict(attributes)},
    }
    answer = cluster.json(Call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body))
    return bool(answer.get("status", {}).get("allowed"))


def delete(cluster: Cluster, kind: Kind, namespace: str, name: str, uid: str, version: str = "") -> bool:
    """Delete this object, not a later one of the same name; return False if it is already gone.

    With `version`, also false if it has changed since.
    """
    preconditions = {"uid": uid, **({"resourceVersion": version} if version else {})}
    body = {"propagationPolicy": "Background", "preconditions": preconditions}
    try:
        cluster.json(Call("DELETE", kind.path(namespace, name), body=body))
    except (NotFound, Conflict) as error:  # Conflict: another object has the name by now
        if isinstance(error, NotFound) and error.no_api:
            raise
        return False
    return True
