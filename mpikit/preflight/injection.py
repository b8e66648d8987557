# SPDX-License-Identifier: Apache-2.0
"""Check whether the cluster adds sidecars to the pods: they keep the launcher, and so the job, open."""

from __future__ import annotations

from collections.abc import Mapping

from mpikit.diagnostics import Found, passed, warning
from mpikit.errors import Forbidden
from mpikit.kube.answers import Object
from mpikit.kube.api import NAMESPACE, find
from mpikit.kube.client import Cluster
from mpikit.sidecars import added, injection, opt_out, remedy_of
from mpikit.validation.mpijob import ROLES

_HARM = "it keeps the job open after the launcher has ended, and can block ssh between the pods"


def check_sidecars(
    cluster: Cluster, before: Mapping[str, Object], tried: Mapping[str, Object], namespace: str
) -> Found:
    """Report sidecars: those that a dry run has added (`tried`), or that the namespace and the pods ask for."""
    try:
        space = find(cluster, NAMESPACE, None, namespace) or {}
    except Forbidden:
        space = {}
    yield from sidecar_faults(space, before, tried, namespace)


def sidecar_faults(space: Object, before: Mapping[str, Object], tried: Mapping[str, Object], namespace: str) -> Found:
    """Compare the pod templates with what the server made of them, and with the switches of the meshes."""
    pairs = [(before[role].get("spec") or {}, tried[role].get("spec") or {}) for role in ROLES]
    extra = dict.fromkeys(name for old, new in pairs for name in added(old, new, native=False))
    native = dict.fromkeys(name for old, new in pairs for name in added(old, new, native=True))
    if extra:
        yield warning("sidecars", f"the cluster adds {', '.join(extra)} to the pods: {_HARM}", remedy_of(extra))
        return
    if native:
        yield passed("sidecars", f"the cluster adds {', '.join(native)}, which ends with its pod (a native sidecar)")
        return
    asked = {role: found for role in ROLES if (found := injection(space, before[role]))}
    if asked:
        mesh, cause = next(iter(asked.values()))
        roles = " and ".join(role.lower() for role in asked)
        message = f"namespace {namespace} adds a sidecar of {mesh.name} to the {roles} pods ({cause}): {_HARM}"
        yield warning("sidecars", message, opt_out(mesh))
