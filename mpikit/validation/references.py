# SPDX-License-Identifier: Apache-2.0
"""Which objects of the cluster a manifest refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.text.nested import Object, as_map, at, numbered
from mpikit.validation.mpijob import ROLES, pod_of

_REFERENCES = {"serviceAccountName": "ServiceAccount", "priorityClassName": "PriorityClass"}


_VOLUME_OBJECTS = {
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
}


_VARIABLE_OBJECTS = {
    "configMapRef": "ConfigMap",
    "secretRef": "Secret",
    "configMapKeyRef": "ConfigMap",
    "secretKeyRef": "Secret",
}


def presumed(job: Mapping[str, Any]) -> list[str]:
    """The objects that the pods name, such as `ServiceAccount ada`: the cluster must have them."""
    return list(dict.fromkeys(found for role in ROLES for found in _presumed(pod_of(job, role))))


def _presumed(pod: Object) -> Iterator[str]:
    for field, kind in _REFERENCES.items():
        if pod.get(field):
            yield f"{kind} {pod[field]}"
    for _, secret in numbered(pod.get("imagePullSecrets")):
        yield f"Secret {secret.get('name')}"
    for _, volume in numbered(pod.get("volumes")):
        for source, (kind, name) in _VOLUME_OBJECTS.items():
            if at(volume, source, name) and at(volume, source, "optional") is not True:
                yield f"{kind} {volume[source][name]}"
    for _, container in numbered(pod.get("containers")):
        variables = [as_map(one.get("valueFrom")) for _, one in numbered(container.get("env"))]
        for reference in (*variables, *(one for _, one in numbered(container.get("envFrom")))):
            for source, kind in _VARIABLE_OBJECTS.items():
                if at(reference, source, "name") and at(reference, source, "optional") is not True:
                    yield f"{kind} {reference[source]['name']}"
