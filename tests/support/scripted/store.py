# SPDX-License-Identifier: Apache-2.0
"""Objects as an API server keeps them: uids, versions, apply, lists and deletion, true where the kit relies on it."""

from __future__ import annotations

import base64
import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name

NOW = "2026-11-25T03:00:00Z"
MODIFIED = (
    'Operation cannot be fulfilled on {} "{}": the object has been modified; please apply your changes to the latest '
    "version and try again"
)


class Refusal(Exception):
    """An answer of 400 or more."""

    def __init__(self, code: int, reason: str, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": {"kind": kind},
            "code": code,
        }
        self.code = code


@dataclass
class Store:
    """One server's objects. `on_change` hears of every object that is made or deleted."""

    on_change: Callable[[str, Object], None] = lambda what, item: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    objects: dict[Key, Object] = field(default_factory=dict)
    history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    version: int = 1000
    forgotten: int = 0
    """Versions up to this one are too old for a watch."""

    def put(self, what: str, plural: str, item: Object) -> Object:
        """Store an object as a new version, or with DELETED remove it."""
        with self.lock:
            self.version += 1
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(self.version)
            key = plural, item["metadata"]["namespace"], item["metadata"]["name"]
            if what == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = item
            self.history.append((self.version, what, plural, item))
            self.on_change(what, item)
            return copy.deepcopy(item)

    def get(self, plural: str, namespace: str, name: str) -> Object:
        with self.lock:
            if found := self.objects.get((plural, namespace, name)):
                return copy.deepcopy(found)
        raise Refusal(404, "NotFound", f'{plural} "{name}" not found', plural)

    def apply(self, plural: str, namespace: str, name: str, body: Object, query: dict[str, str]) -> tuple[int, Object]:
        """Server-side apply by one manager: 201 or 200, 409 if a version is named that is not the present one.

        Measured on the real API server 1.35: a version that is named for a missing object is ignored.
        """
        with self.lock:
            live = self.objects.get((plural, namespace, name))
            named = body["metadata"].get("resourceVersion")
            if live and named and named != live["metadata"]["resourceVersion"]:
                raise Refusal(409, "Conflict", MODIFIED.format(plural, name), plural)
            metadata = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
            metadata |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": NOW, "generation": 1}
            if live:
                kept = ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp")
                metadata |= {key: live["metadata"][key] for key in kept if key in live["metadata"]}
            merged = {**body, "metadata": metadata, **({"status": live["status"]} if live and "status" in live else {})}
            if query.get("dryRun") == "All" or merged == live:
                return 200 if live else 201, copy.deepcopy(merged)
            return 200 if live else 201, self.put("MODIFIED" if live else "ADDED", plural, merged)

    def create(self, plural: str, namespace: str, body: Object, query: dict[str, str]) -> Object:
        """POST: 409 if there is one of the name."""
        name = body["metadata"]["name"]
        with self.lock:
            if (plural, namespace, name) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{plural} "{name}" already exists', plural)
            return self.apply(plural, namespace, name, body, query)[1]

    def delete(self, plural: str, namespace: str, name: str, body: Object) -> Object:
        """Delete an object if it still is the one that `preconditions` name."""
        with self.lock:
            live = self.get(plural, namespace, name)
            for key, wanted in (body.get("preconditions") or {}).items():
                if (found := live["metadata"][key]) != wanted:
                    text = f"Precondition failed: {key} in precondition: {wanted}, in object meta: {found}"
                    raise Refusal(409, "Conflict", text, plural)
            self.put("DELETED", plural, live)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": name}}

    def list(self, kind: str, plural: str, namespace: str, query: dict[str, str]) -> Object:
        """A page of a list."""
        with self.lock:
            found = [
                copy.deepcopy(item)
                for (one, space, _), item in sorted(self.objects.items())
                if one == plural and space == namespace and matches(item, query)
            ]
            start = 0
            if token := query.get("continue"):
                start, version = json.loads(base64.b64decode(token))
                if version <= self.forgotten:
                    raise Refusal(410, "Expired", "The provided continue parameter is too old")
            end = start + int(query.get("limit") or len(found) or 1)
            more = base64.b64encode(json.dumps([end, self.version]).encode()).decode() if end < len(found) else ""
            metadata = {"resourceVersion": str(self.version), **({"continue": more} if more else {})}
            return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": found[start:end]}

    def changes(self, plural: str, namespace: str, query: dict[str, str]) -> Iterator[tuple[int, str, Object]]:
        """What has changed since a version."""
        with self.lock:
            since = int(query["resourceVersion"])
            found = [
                (version, what, copy.deepcopy(item))
                for version, what, one, item in self.history
                if version > since and one == plural and item["metadata"]["namespace"] == namespace
            ]
        return iter([change for change in found if matches(change[2], query)])

    def of(self, plural: str) -> list[Object]:
        """All objects of a kind."""
        with self.lock:
            return [copy.deepcopy(item) for (one, _, _), item in sorted(self.objects.items()) if one == plural]


def merged(old: Any, patch: Any) -> Any:
    """What a JSON merge patch makes of a value (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    kept = {
        key: value for key, value in (old if isinstance(old, dict) else {}).items() if patch.get(key, 0) is not None
    }
    return kept | {key: merged(kept.get(key), value) for key, value in patch.items() if value is not None}


def matches(item: Object, query: dict[str, str]) -> bool:
    """Whether an object is meant by fieldSelector and labelSelector."""
    labels = item["metadata"].get("labels") or {}
    for part in filter(None, query.get("labelSelector", "").split(",")):
        name, equals, value = part.partition("=")
        if labels.get(name) != value if equals else name not in labels:
            return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = part.partition("=")
        found: Any = item
        for step in path.split("."):
            found = found.get(step, "") if isinstance(found, dict) else ""
        if str(found) != value:
            return False
    return True
