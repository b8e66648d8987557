# SPDX-License-Identifier: Apache-2.0
"""Parse the answers of an API server into data that has the form of Kubernetes objects.

A server, or what stands in front of it, may send anything. The checks here make sure that the fields that the kit
reads have the type that the Kubernetes API gives them, so that no other module has to ask.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

Object = dict[str, Any]

LINE_BYTES = 16 << 20  # of one event of a watch or one line of a log; etcd takes objects of 1.5 MiB

MOST_COMMAS = 2_000_000  # one for each value but the first; a page of 200 pods has 100,000

_MAPS = {"metadata", "spec", "template", "labels", "annotations", "matchLabels", "nodeSelector", "state", "running"}
_MAPS |= {"terminated", "waiting", "limits", "requests", "hard", "used", "capacity", "allocatable", "involvedObject"}
_MAPS |= {"series", "runPolicy", "mpiReplicaSpecs", "Launcher", "Worker", "details", "valueFrom"}
_LISTS_OF_MAPS = {"items", "conditions", "containers", "initContainers", "containerStatuses", "ownerReferences"}
_LISTS_OF_MAPS |= {"initContainerStatuses", "tolerations", "taints", "env", "envFrom", "volumes", "volumeMounts"}
_LISTS_OF_MAPS |= {"imagePullSecrets", "matchExpressions", "nodeSelectorTerms", "subjects"}
_TEXTS = {"apiVersion", "kind", "name", "namespace", "uid", "resourceVersion", "continue", "message", "reason"}
_TEXTS |= {"phase", "nodeName", "type", "managedBy"}
_COUNTS = {"replicas", "restartCount", "exitCode", "backoffLimit", "slotsPerWorker"}
_TIMES = {"startTime", "completionTime", "startedAt", "finishedAt", "eventTime", "lastTransitionTime", "lastUpdateTime"}
_TIMES |= {"creationTimestamp", "deletionTimestamp", "firstTimestamp", "lastTimestamp", "lastObservedTime"}
# Kinds whose fields have arbitrary names: schemas, data.
_OPAQUE = {"CustomResourceDefinition", "CustomResourceDefinitionList", "ConfigMap", "Secret"}
_FREE = {"managedFields", "data", "binaryData", "annotations", "labels", "matchLabels", "nodeSelector"}


class Strange(ValueError):
    """The answer is complete JSON, but not that of an API server; another try will not help."""


def parse(data: bytes) -> Object:
    """Return the object in an answer. Raises ValueError, with a message for the user, for anything else."""
    if data.count(b",") > MOST_COMMAS:
        raise Strange("it contains too many values")
    try:
        found = json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise Strange("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise Strange("it is not an object")
    if b"\\ud" in data.lower() and not _is_text(found):
        raise Strange("it contains half of a UTF-16 pair, which is not a character")
    if fault := next(_faults(_object_of(found)), None):
        raise Strange(fault)
    return found


def _object_of(answer: Object) -> Object:
    """Return the Kubernetes object in an answer or in an event of a watch; empty for other documents."""
    if "kind" in answer:
        return answer
    inner = answer.get("object")
    return inner if isinstance(inner, dict) else {}


def _no_number(word: str) -> float:
    raise Strange(f"it contains {word}, which is not a JSON number")


def _is_text(value: Object) -> bool:
    """Return whether all of its text can be encoded; JSON's escapes can name halves of characters."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _faults(answer: Object) -> Iterator[str]:
    """Yield each field whose type differs from that in the Kubernetes API."""
    left: list[tuple[str, Any]] = [("", answer)]
    while left:
        path, value = left.pop()
        if isinstance(value, list):
            left += [(f"{path}[{number}]", item) for number, item in enumerate(value)]
            continue
        if not isinstance(value, dict):
            continue
        if isinstance(value.get("kind"), str) and value["kind"] in _OPAQUE:
            left.append((f"{path}.metadata", {"metadata": value.get("metadata")}))
            continue
        for name, item in value.items():
            place = f"{path}.{name}".lstrip(".")
            if item is not None and (wanted := _wanted(name, item, value)):
                yield f"{place} is not {wanted}"
            elif name not in _FREE:
                left.append((place, item))


def _wanted(name: str, item: Any, parent: Object) -> str:
    """Return the type that a field should have; empty if it has it."""
    if name == "status":
        right = isinstance(item, str if "type" in parent or parent.get("kind") == "Status" else dict)
        return "" if right else "a map" if "type" not in parent else "text"
    if name in _MAPS:
        return "" if isinstance(item, dict) and _texts_only(name, item) else "a map"
    if name in _LISTS_OF_MAPS:
        return "" if isinstance(item, list) and all(isinstance(one, dict) for one in item) else "a list of maps"
    if name in _TEXTS:
        return "" if isinstance(item, str) else "text"
    if name in _COUNTS:
        return "" if isinstance(item, int) and not isinstance(item, bool) else "a whole number"
    return "" if name not in _TIMES or _is_time(item) else "a time"


def _texts_only(name: str, item: Object) -> bool:
    return name not in ("labels", "annotations") or all(isinstance(text, str) for text in item.values())


def _is_time(item: Any) -> bool:
    try:
        datetime.fromisoformat(item.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return False
    return True


class Lines:
    """Join pieces into whole lines; time and memory grow with the text only."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def rest(self) -> bytes:
        """What has come since the last line end."""
        return b"".join(self._parts)

    def add(self, piece: bytes) -> list[bytes]:
        """Return the lines that this piece completes. Raises ValueError when a line is longer than LINE_BYTES."""
        head, *others = piece.split(b"\n")
        self._parts.append(head)
        self._size += len(head)
        if self._size > LINE_BYTES:
            raise ValueError(f"a line is longer than {LINE_BYTES >> 20} MiB")
        if not others:
            return []
        lines = [self.rest, *others[:-1]]
        self._parts, self._size = [others[-1]], len(others[-1])
        return lines
