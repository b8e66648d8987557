# SPDX-License-Identifier: Apache-2.0
"""Pod Security's violations of a rendered job, each with the values key that causes it and its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mpikit.config.values import Values
from mpikit.diagnostics import Diagnostic
from mpikit.text.manifest import Manifest
from mpikit.text.nested import Key, at, dotted
from mpikit.validation.mpijob import ROLES
from mpikit.validation.pod_security import LATEST, Version, violations

_FOLDERS = ("mydir", "dataset", "pretrained", "output")  # values keys whose volumes have the same names
_NON_ROOT = "as in values/restricted.yaml: set runAsUser: 1000, and an sshAuthMountPath outside /root"


def security_faults(manifest: Manifest, level: str, values: Values, version: Version = LATEST) -> list[Diagnostic]:
    """One fault for each violation and values key; what both pods violate alike is reported once."""
    seen: dict[tuple[str, str], Diagnostic] = {}
    (job,) = (document.data for document in manifest.of_kind("MPIJob"))
    for role in ROLES:
        template = at(job, "spec", "mpiReplicaSpecs", role, "template") or {}
        for violation in violations(template, level, version):
            for key in dict.fromkeys(_causes(violation.fields, template, role.lower())):
                message = f'violates PodSecurity "{level}": {violation.sentence}'
                fault = Diagnostic(dotted(key), values.where(key) or manifest.source, message, values_fix(key))
                seen.setdefault((fault.key, violation.sentence), fault)
    return list(seen.values())


def _causes(fields: tuple[Key, ...], template: Mapping[str, Any], role: str) -> Iterator[Key]:
    for field in fields:
        yield values_key(field, template, role)


def values_key(field: Key, template: Mapping[str, Any], role: str) -> Key:
    """The values key behind a field of a pod template that this kit has rendered."""
    match field:
        case ("spec", "hostIPC"):
            return ("hostIPC",)
        case ("spec", "volumes", int(number), *_):
            name = str(at(template, "spec", "volumes", number, "name"))
            return (name,) if name in _FOLDERS else (role, "volumes")
        case ("spec", "containers", _, "ports", *_):
            return (role, "podSpec", "hostNetwork")  # sshd then has a port of the node
        case ("spec", "containers", *_):
            return ("runAsUser",)  # the kit's own container takes no securityContext from the values but by this
        case ("spec", "securityContext", name, *_) if at(template, "spec", "securityContext", name) is None:
            return ("runAsUser",)
        case (_, name, *_):
            return (role, "podSpec", name)
        case _:
            return field


def values_fix(key: Key) -> str:
    """What to change at a values key."""
    match key:
        case ("hostIPC",):
            return "set hostIPC: false; /dev/shm is then memory of the pod's own"
        case ("runAsUser",):
            return _NON_ROOT
        case (_, "volumes"):
            return f"take the volume out of {dotted(key)}, or put a claim in its place"
        case (_, "podSpec", "hostNetwork"):
            return "remove it: the pods then use the network of the cluster"
        case (_, "podSpec", *_):
            return f"take what the sentence names out of {dotted(key)}"
        case _:
            return f"set {dotted(key)}: {{pvc: NAME, subPath: FOLDER}} instead of a path"
