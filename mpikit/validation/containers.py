# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses of a pod's containers: names, variables, ports, probes and hooks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mpikit.diagnostics import Found, fault
from mpikit.text.image import image_fault
from mpikit.text.nested import Object, as_map, at, is_int, numbered
from mpikit.text.quoting import shown
from mpikit.validation.field_checks import (
    PORT_MAX,
    PORT_NAME_MAX,
    PORTS,
    PROFILES,
    choice_faults,
    context_faults,
    key_faults,
    needed_name_faults,
    own_name,
    port_name_faults,
    variable_faults,
)
from mpikit.validation.resources import resource_faults
from mpikit.validation.volumes import mounts_faults

# Source: kubernetes/pkg/apis/core/v1/conversion.go and validEnvDownwardAPIFieldPathExpressions.
_FIELD_PATH = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs)"
)
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("imagePullPolicy",): ("Always", "IfNotPresent", "Never", ""),
    ("terminationMessagePolicy",): ("File", "FallbackToLogsOnError", ""),
    ("securityContext", "seccompProfile", "type"): PROFILES,
    ("securityContext", "procMount"): ("Default", "Unmasked"),
}
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def containers_faults(spec: Object, key: str, added_volumes: Sequence[str] = ()) -> Found:
    """Every fault of all containers of a pod."""
    volumes = {*added_volumes, *(volume.get("name") for _, volume in numbered(spec.get("volumes")))}
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for number, container in numbered(spec.get(field)):
            here = f"{key}.{field}[{number}]"
            yield from own_name(container.get("name"), here, names)
            yield from _container_faults(container, here, volumes)
            if field == "initContainers" and container.get("restartPolicy") != "Always":
                yield from _ends_faults(container, here)


def _ends_faults(container: Object, key: str) -> Found:
    """What a container that runs to its end before the others must not have."""
    for name in ("lifecycle", *_PROBES):
        if container.get(name) is not None:
            yield fault(f"{key}.{name}", "an init container cannot have one", "remove it")


def _container_faults(container: Object, key: str, volumes: set[Any]) -> Found:
    image = container.get("image")
    if not image:
        yield fault(f"{key}.image", "is missing", "give the container an image")
    elif isinstance(image, str) and (bad := image_fault(image)):
        reason, fix = bad
        yield fault(f"{key}.image", f"{shown(image)} is not a valid image reference: it {reason}", fix)
    yield from choice_faults(container, _CHOICES, key)
    for number, variable in numbered(container.get("env")):
        yield from _variable_faults(variable, f"{key}.env[{number}]")
    for number, source in numbered(container.get("envFrom")):
        yield from _all_variables_faults(source, f"{key}.envFrom[{number}]")
    yield from mounts_faults(container, key, volumes)
    yield from _port_faults(container, key)
    yield from context_faults(container.get("securityContext"), f"{key}.securityContext")
    for name in _PROBES:
        yield from _probe_faults(container.get(name), f"{key}.{name}", once=name != "readinessProbe")
    for name, hook in as_map(container.get("lifecycle")).items():
        if isinstance(hook, dict):
            yield from _handler_faults(hook, f"{key}.lifecycle.{name}", _HOOKS)
    yield from resource_faults(container.get("resources"), f"{key}.resources")


def _variable_faults(variable: Object, key: str) -> Found:
    yield from variable_faults(variable.get("name"), f"{key}.name")
    source = variable.get("valueFrom")
    if not isinstance(source, dict):
        return
    if variable.get("value"):
        yield fault(key, "has both value and valueFrom", "keep one")
    if len(source) != 1:
        yield fault(f"{key}.valueFrom", f"has {len(source)} sources", "give one")
    path = at(source, "fieldRef", "fieldPath")
    if isinstance(path, str) and not _FIELD_PATH.fullmatch(path):
        known = "metadata.name, metadata.labels['KEY'], spec.nodeName, status.podIP, ..."
        yield fault(f"{key}.valueFrom.fieldRef.fieldPath", f"{path!r} is not a field of a pod", known)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if isinstance(source.get(kind), dict):
            yield from needed_name_faults(source[kind].get("name"), f"{key}.valueFrom.{kind}.name")
            yield from key_faults(source[kind].get("key"), f"{key}.valueFrom.{kind}.key")


def _all_variables_faults(source: Object, key: str) -> Found:
    """A ConfigMap or Secret whose every key becomes a variable."""
    if source.get("prefix"):
        yield from variable_faults(source["prefix"], f"{key}.prefix")
    given = [kind for kind in ("configMapRef", "secretRef") if isinstance(source.get(kind), dict)]
    if len(given) != 1:
        yield fault(key, "must name one ConfigMap or Secret", "give configMapRef or secretRef")
    for kind in given:
        yield from needed_name_faults(source[kind].get("name"), f"{key}.{kind}.name")


def _port_faults(container: Object, key: str) -> Found:
    names: set[str] = set()
    for number, port in numbered(container.get("ports")):
        here, name = f"{key}.ports[{number}]", port.get("name")
        if is_int(port.get("containerPort")) and port["containerPort"] not in PORTS:
            yield fault(f"{here}.containerPort", f"{port['containerPort']} is not a valid port", f"1 to {PORT_MAX}")
        if is_int(port.get("hostPort")) and port["hostPort"] not in (0, *PORTS):
            yield fault(f"{here}.hostPort", f"{port['hostPort']} is not a valid port", f"1 to {PORT_MAX}")
        if isinstance(port.get("protocol"), str) and port["protocol"] not in ("", *_PROTOCOLS):
            yield fault(f"{here}.protocol", f"{port['protocol']!r} is not known", f"one of {', '.join(_PROTOCOLS)}")
        if isinstance(name, str) and name:
            yield from port_name_faults(name, f"{here}.name", f"a-z, 0-9 and -, at most {PORT_NAME_MAX}")
            if name in names:
                yield fault(f"{here}.name", f"{name!r} is used twice", "give another name")
            names.add(name)


def _probe_faults(probe: Any, key: str, *, once: bool) -> Found:
    if not isinstance(probe, dict):
        return
    yield from _handler_faults(probe, key, _HANDLERS)
    for name in _PROBE_COUNTS:
        if is_int(probe.get(name)) and probe[name] < 0:
            yield fault(f"{key}.{name}", f"{probe[name]} is negative", "0 or more")
    if once and is_int(probe.get("successThreshold")) and probe["successThreshold"] > 1:
        yield fault(f"{key}.successThreshold", "must be 1 here", "set 1")
    grace = probe.get("terminationGracePeriodSeconds")
    if is_int(grace) and (grace < 1 or key.endswith("readinessProbe")):
        yield fault(f"{key}.terminationGracePeriodSeconds", "is not allowed here", "remove it")


def _handler_faults(handler: Object, key: str, known: Sequence[str]) -> Found:
    given = [name for name in known if isinstance(handler.get(name), dict)]
    if len(given) != 1:
        yield fault(key, "has several handlers" if given else "has no handler", f"give one of {', '.join(known)}")
    for name in given:
        port = handler[name].get("port")
        if is_int(port) and port not in PORTS:
            yield fault(f"{key}.{name}.port", f"{port} is not a valid port", f"1 to {PORT_MAX}")
        elif isinstance(port, str):
            yield from port_name_faults(port, f"{key}.{name}.port", "give a number, or a port's name")
        if name == "exec" and not handler[name].get("command"):
            yield fault(f"{key}.exec.command", "is empty", "give a command")
