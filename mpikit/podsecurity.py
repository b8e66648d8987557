"""The violations that Pod Security admission would list for a pod, level by level.

Source: the Pod Security Standards as k8s.io/pod-security-admission checks them, latest version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from mpikit.objects import at

Level = Literal["privileged", "baseline", "restricted"]
Violation = tuple[str, str]
"""The check's words, as admission says them, and the key below the pod's spec."""

_BASELINE_CAPABILITIES = {
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
}
_FREE_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(spec: Any, level: Level) -> list[Violation]:
    """What of a pod's spec this level forbids; none at privileged."""
    checks = {"privileged": (), "baseline": _BASELINE, "restricted": (*_BASELINE, *_RESTRICTED)}[level]
    found = [violation for check in checks for violation in check(spec)]
    if level == "restricted":  # it says more of volumes and capabilities than baseline, which admission then leaves out
        found = [one for one in found if one[0] not in ("hostPath volumes", "non-default capabilities")]
    return found


def _containers(spec: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("initContainers", "containers"):
        for number, container in enumerate(at(spec, field) or ()):
            yield f"{field}[{number}]", container


def _host_namespaces(spec: Any) -> Iterator[Violation]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if at(spec, name):
            yield "host namespaces", name


def _host_paths(spec: Any) -> Iterator[Violation]:
    for number, volume in enumerate(at(spec, "volumes") or ()):
        if at(volume, "hostPath") is not None:
            yield "hostPath volumes", f"volumes[{number}]"


def _privileged(spec: Any) -> Iterator[Violation]:
    for key, container in _containers(spec):
        if at(container, "securityContext", "privileged"):
            yield "privileged", f"{key}.securityContext.privileged"


def _added_capabilities(spec: Any) -> Iterator[Violation]:
    for key, container in _containers(spec):
        if set(at(container, "securityContext", "capabilities", "add") or ()) - _BASELINE_CAPABILITIES:
            yield "non-default capabilities", f"{key}.securityContext.capabilities.add"


def _host_ports(spec: Any) -> Iterator[Violation]:
    for key, container in _containers(spec):
        for number, port in enumerate(at(container, "ports") or ()):
            if at(port, "hostPort"):
                yield "hostPort", f"{key}.ports[{number}].hostPort"


def _unconfined(spec: Any) -> Iterator[Violation]:
    for key, part in (("", spec), *((f"{key}.", container) for key, container in _containers(spec))):
        if at(part, "securityContext", "seccompProfile", "type") == "Unconfined":
            yield "seccompProfile", f"{key}securityContext.seccompProfile.type"
        if at(part, "securityContext", "procMount") not in (None, "Default"):
            yield "procMount", f"{key}securityContext.procMount"


def _escalation(spec: Any) -> Iterator[Violation]:
    for key, container in _containers(spec):
        if at(container, "securityContext", "allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation != false", f"{key}.securityContext.allowPrivilegeEscalation"


def _capabilities(spec: Any) -> Iterator[Violation]:
    for key, container in _containers(spec):
        given = at(container, "securityContext", "capabilities")
        kept = "ALL" not in (at(given, "drop") or ())
        if kept or set(at(given, "add") or ()) - {"NET_BIND_SERVICE"}:
            yield "unrestricted capabilities", f"{key}.securityContext.capabilities"


def _volume_types(spec: Any) -> Iterator[Violation]:
    for number, volume in enumerate(at(spec, "volumes") or ()):
        if set(volume) - {"name"} - _FREE_VOLUMES:
            yield "restricted volume types", f"volumes[{number}]"


def _non_root(spec: Any) -> Iterator[Violation]:
    pod = at(spec, "securityContext", "runAsNonRoot")
    for key, container in _containers(spec):
        own = at(container, "securityContext", "runAsNonRoot")
        if own is False or (own is None and pod is not True):
            yield "runAsNonRoot != true", f"{key}.securityContext.runAsNonRoot"


def _root_user(spec: Any) -> Iterator[Violation]:
    for key, part in (("", spec), *((f"{key}.", container) for key, container in _containers(spec))):
        if at(part, "securityContext", "runAsUser") == 0:
            yield "runAsUser=0", f"{key}securityContext.runAsUser"


def _seccomp(spec: Any) -> Iterator[Violation]:
    good = ("RuntimeDefault", "Localhost")
    pod = at(spec, "securityContext", "seccompProfile", "type")
    for key, container in _containers(spec):
        own = at(container, "securityContext", "seccompProfile", "type")
        if own not in good and (own is not None or pod not in good) and own != "Unconfined":
            yield "seccompProfile", f"{key}.securityContext.seccompProfile"


Check = Callable[[Any], Iterator[Violation]]
_BASELINE: tuple[Check, ...] = (
    _host_namespaces,
    _host_paths,
    _privileged,
    _added_capabilities,
    _host_ports,
    _unconfined,
)
_RESTRICTED: tuple[Check, ...] = (_escalation, _capabilities, _volume_types, _non_root, _root_user, _seccomp)
