# SPDX-License-Identifier: Apache-2.0
"""Service meshes that add a sidecar to every pod of a namespace, and how a pod opts out.

Sources: istio.io "Installing the sidecar", linkerd.io "Automatic proxy injection", kuma.io "Data plane on Kubernetes".
A launcher whose sidecar does not end with it keeps its Job, and so the MPIJob, open. Native sidecars
(initContainers with restartPolicy Always) do end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mpikit.text.nested import as_map, at

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mesh:
    """One mesh: the container that it adds, and the switch of a pod."""

    name: str
    container: str
    key: str
    off: str
    on: tuple[str, ...]
    place: Literal["annotations", "labels"]
    """Where `remedy` writes the switch; it is read in both."""

    @property
    def remedy(self) -> str:
        """The switch as the values have it."""
        return f'{{{self.key}: "{self.off}"}}'


ISTIO = Mesh("Istio", "istio-proxy", "sidecar.istio.io/inject", "false", ("true",), "annotations")
LINKERD = Mesh("Linkerd", "linkerd-proxy", "linkerd.io/inject", "disabled", ("enabled", "ingress"), "annotations")
KUMA = Mesh("Kuma", "kuma-sidecar", "kuma.io/sidecar-injection", "disabled", ("enabled", "true"), "labels")
MESHES = (ISTIO, LINKERD, KUMA)


def injection(namespace: Object, template: Object) -> tuple[Mesh, str] | None:
    """Return the mesh that adds a sidecar to pods of a template, and what asks for it; None if none does."""
    if at(template, "spec", "hostNetwork") is True:
        return None
    for mesh in MESHES:
        own = _setting(template, mesh.key)
        if own in mesh.on:
            return mesh, f"the pods set {mesh.key}: {own}"
        if own is None and (cause := _namespace_asks(namespace, mesh)):
            return mesh, cause
    return None


def _setting(item: Object, key: str) -> str | None:
    """Return a label, or else an annotation: the meshes accept both."""
    for place in ("labels", "annotations"):
        value = at(item, "metadata", place, key)
        if value is not None:
            return str(value)
    return None


def _namespace_asks(namespace: Object, mesh: Mesh) -> str:
    labels = as_map(at(namespace, "metadata", "labels"))
    if mesh is ISTIO:
        switch, revision = labels.get("istio-injection"), labels.get("istio.io/rev")
        if switch is not None:
            return "label istio-injection=enabled" if switch == "enabled" else ""
        return f"label istio.io/rev={revision}" if revision else ""
    value = _setting(namespace, mesh.key)
    kind = "label" if mesh.key in labels else "annotation"
    return f"{kind} {mesh.key}={value}" if value in mesh.on else ""


def remedy_of(containers: Iterable[str], ours: bool = True) -> str:
    """Return how the next pods avoid these sidecars."""
    names = list(containers)
    mesh = next((mesh for mesh in MESHES if mesh.container in names), None)
    if mesh:
        return opt_out(mesh, ours)
    return (
        f"make {', '.join(names)} a native sidecar (initContainers with restartPolicy: Always), which ends with the "
        "main container"
    )


def opt_out(mesh: Mesh, ours: bool = True) -> str:
    """Return what to set so that a mesh leaves the pods alone."""
    if ours:
        return f"set launcher.{mesh.place}: and worker.{mesh.place}: to {mesh.remedy}"
    return f'set the {mesh.place.rstrip("s")} {mesh.key}: "{mesh.off}" in the pod templates of Launcher and Worker'


def added(before: Object, after: Object, native: bool) -> list[str]:
    """Return the containers that the cluster added to a pod spec: those beside the main one, or native sidecars."""
    key = "initContainers" if native else "containers"
    old = {one.get("name") for one in _containers(before, key)}
    new = [one for one in _containers(after, key) if one.get("name") not in old]
    return [str(one.get("name")) for one in new if not native or one.get("restartPolicy") == "Always"]


def _containers(spec: Object, key: str) -> Sequence[Object]:
    return at(spec, key) or ()
