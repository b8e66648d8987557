# SPDX-License-Identifier: Apache-2.0
"""What Pod Security admission would reject of an MPIJob's pods, in its own words, with the field behind each word.

Source: k8s.io/pod-security-admission of Kubernetes 1.35, policy/check_*.go, with the versions of the standard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from mpikit.text.nested import Key

Level = Literal["privileged", "baseline", "restricted"]
Version = tuple[int, ...]
LATEST: Version = (1, 35)  # later ones change nothing, as far as is known
_FIRST: Version = (1, 0)
_CONTAINERS = ("initContainers", "containers")  # in the order in which admission names them
_BASELINE_CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
# Kernel parameters that are safe, and the version of the standard from which on each is allowed.
_SYSCTLS: dict[str, Version] = {
    **dict.fromkeys(("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"), _FIRST),
    **dict.fromkeys(("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"), _FIRST),
    "net.ipv4.ip_local_reserved_ports": (1, 27),
    **dict.fromkeys(("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout"), (1, 29)),
    **dict.fromkeys(("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"), (1, 29)),
    **dict.fromkeys(("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"), (1, 32)),
}
_SELINUX_TYPES: dict[str, Version] = {
    **dict.fromkeys(("", "container_t", "container_init_t", "container_kvm_t"), _FIRST),
    "container_engine_t": (1, 31),
}
_PROBE_HOSTS_SINCE: Version = (1, 34)
_OWN_USERS_SINCE: Version = (1, 35)  # root in a pod with users of its own (hostUsers: false) is nobody on the node
_RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
    "image",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that admission refuses: its sentence, and the fields of the pod that are to blame."""

    sentence: str
    fields: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """The pod itself, or one of its containers."""

    key: Key
    name: str
    data: Mapping[str, Any]

    @property
    def security(self) -> Mapping[str, Any]:
        return _map(self.data.get("securityContext"))

    def field(self, *names: str | int) -> Key:
        return (*self.key, "securityContext", *names)


Check = Callable[[_Part, list[_Part]], Iterator[Violation]]


def violations(pod: Mapping[str, Any], level: str, version: Version = LATEST) -> list[Violation]:
    """What a namespace that enforces this level, in this version of it, would say of a pod, or of a pod template."""
    spec = _map(pod.get("spec"))
    whole = _Part(("spec",), "pod", spec)
    containers = [
        _Part(("spec", kind, number), str(item.get("name") or ""), item)
        for kind in _CONTAINERS
        for number, item in enumerate(_maps(spec.get(kind)))
    ]
    return [found for check in _checks(level, version) for found in check(whole, containers)]


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [_map(item) for item in value] if isinstance(value, list) else []


def _quoted(names: Iterable[object]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _named(parts: list[_Part]) -> str:
    """`pod and container "a"`, as admission lists who has set something."""
    containers = [part.name for part in parts if part.name != "pod" or len(part.key) > 1]
    words = ["pod"] if len(containers) < len(parts) else []
    if containers:
        words.append(f"container{'s' * (len(containers) > 1)} {_quoted(containers)}")
    return " and ".join(words)


def _setters(reason: str, must: str, field: tuple[str, ...], parts: list[_Part]) -> Iterator[Violation]:
    if parts:
        yield Violation(f"{reason} ({_named(parts)} {must})", tuple(part.field(*field) for part in parts))


def _app_armor(pod: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad = [
        part for part in (pod, *containers) if _map(part.security.get("appArmorProfile")).get("type") == "Unconfined"
    ]
    must = 'must not set AppArmor profile type to "Unconfined"'
    yield from _setters("forbidden AppArmor profile", must, ("appArmorProfile", "type"), bad)


def _capabilities(part: _Part, which: str) -> list[str]:
    found = _map(part.security.get("capabilities")).get(which)
    return [str(name) for name in found] if isinstance(found, list) else []


def _adds(containers: list[_Part], allowed: set[str]) -> tuple[str, tuple[Key, ...]]:
    bad = [part for part in containers if set(_capabilities(part, "add")) - allowed]
    names = sorted({name for part in bad for name in _capabilities(part, "add")} - allowed)
    detail = f"{_named(bad)} must not include {_quoted(names)} in securityContext.capabilities.add" if bad else ""
    return detail, tuple(part.field("capabilities", "add") for part in bad)


def _baseline_capabilities(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    detail, fields = _adds(containers, _BASELINE_CAPABILITIES)
    if detail:
        yield Violation(f"non-default capabilities ({detail})", fields)


def _host_namespaces(pod: _Part, _: list[_Part]) -> Iterator[Violation]:
    used = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.data.get(name) is True]
    if used:
        detail = ", ".join(f"{name}=true" for name in used)
        yield Violation(f"host namespaces ({detail})", tuple((*pod.key, name) for name in used))


def _volumes(pod: _Part, bad: Callable[[str], bool]) -> list[tuple[Key, str, str]]:
    """Key, name and type of each volume whose type is bad."""
    found = []
    for number, volume in enumerate(_maps(pod.data.get("volumes"))):
        kind = next((name for name, source in volume.items() if name != "name" and source is not None), "emptyDir")
        if bad(kind):
            found.append(((*pod.key, "volumes", number), str(volume.get("name") or ""), kind))
    return found


def _host_paths(pod: _Part, _: list[_Part]) -> Iterator[Violation]:
    bad = _volumes(pod, lambda kind: kind == "hostPath")
    if bad:
        detail = f"volume{'s' * (len(bad) > 1)} {_quoted(name for _, name, _ in bad)}"
        yield Violation(f"hostPath volumes ({detail})", tuple((*key, kind) for key, _, kind in bad))


def _restricted_volumes(pod: _Part, _: list[_Part]) -> Iterator[Violation]:
    bad = _volumes(pod, lambda kind: kind not in _RESTRICTED_VOLUMES)
    if bad:
        many, kinds = len(bad) > 1, sorted({kind for _, _, kind in bad})
        who = f"volume{'s' * many} {_quoted(name for _, name, _ in bad)} use{'s' * (not many)}"
        detail = f"{who} restricted volume type{'s' * (len(kinds) > 1)} {_quoted(kinds)}"
        yield Violation(f"restricted volume types ({detail})", tuple((*key, kind) for key, _, kind in bad))


def _host_ports(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    used = {
        (*part.key, "ports", number, "hostPort"): (part.name, port["hostPort"])
        for part in containers
        for number, port in enumerate(_maps(part.data.get("ports")))
        if port.get("hostPort")
    }
    if used:
        names, ports = (
            list(dict.fromkeys(name for name, _ in used.values())),
            sorted({str(p) for _, p in used.values()}),
        )
        who = f"container{'s' * (len(names) > 1)} {_quoted(names)} use{'s' * (len(names) == 1)}"
        yield Violation(f"hostPort ({who} hostPort{'s' * (len(ports) > 1)} {', '.join(ports)})", tuple(used))


def _hosts_of(part: _Part) -> Iterator[tuple[Key, str]]:
    """The hosts that probes and hooks of a container name."""
    hooks = [("lifecycle", hook) for hook in ("postStart", "preStop")]
    for path in (*hooks, ("livenessProbe",), ("readinessProbe",), ("startupProbe",)):
        handler: Mapping[str, Any] = part.data
        for name in path:
            handler = _map(handler.get(name))
        for action in ("httpGet", "tcpSocket"):
            if host := _map(handler.get(action)).get("host"):
                yield (*part.key, *path, action, "host"), str(host)


def _probe_hosts(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    found = [(part, key, host) for part in containers for key, host in _hosts_of(part)]
    if found:
        names, hosts = list(dict.fromkeys(part.name for part, _, _ in found)), sorted({host for _, _, host in found})
        who = f"container{'s' * (len(names) > 1)} {_quoted(names)} use{'s' * (len(names) == 1)}"
        what = f"probe or lifecycle host{'s' * (len(hosts) > 1)} {_quoted(hosts)}"
        yield Violation(f"probe or lifecycle host ({who} {what})", tuple(key for _, key, _ in found))


def _privileged(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad = [part for part in containers if part.security.get("privileged") is True]
    yield from _setters("privileged", "must not set securityContext.privileged=true", ("privileged",), bad)


def _proc_mount(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad = [part for part in containers if part.security.get("procMount") not in (None, "Default")]
    values = sorted({str(part.security["procMount"]) for part in bad})
    yield from _setters(
        "procMount", f"must not set securityContext.procMount to {_quoted(values)}", ("procMount",), bad
    )


def _unless_own_users(check: Check) -> Check:
    """The check for pods without users of their own only."""
    return lambda pod, containers: iter(()) if pod.data.get("hostUsers") is False else check(pod, containers)


def _selinux(allowed: set[str], pod: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad, types, fields = [], set(), set()
    for part in (pod, *containers):
        option = _map(part.security.get("seLinuxOptions"))
        wrong_type, own = str(option.get("type") or ""), {name for name in ("user", "role") if option.get(name)}
        if wrong_type not in allowed or own:
            bad.append(part)
            types |= {wrong_type} - allowed
            fields |= own
    what = [f"type{'s' * (len(types) > 1)} {_quoted(sorted(types))}"] if types else []
    what += [f"{name} may not be set" for name in ("user", "role") if name in fields]
    must = f"set forbidden securityContext.seLinuxOptions: {'; '.join(what)}"
    yield from _setters("seLinuxOptions", must, ("seLinuxOptions",), bad)


def _profile(part: _Part) -> Any:
    return _map(part.security.get("seccompProfile")).get("type")


def _seccomp_unconfined(pod: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad = [part for part in (pod, *containers) if _profile(part) == "Unconfined"]
    must = 'must not set securityContext.seccompProfile.type to "Unconfined"'
    yield from _setters("seccompProfile", must, ("seccompProfile", "type"), bad)


def _seccomp_set(pod: _Part, containers: list[_Part]) -> Iterator[Violation]:
    explicit = list(_seccomp_unconfined(pod, containers))
    yield from explicit
    bare = [part for part in containers if _profile(part) is None]
    if bare and not explicit and _profile(pod) is None:
        must = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
        fields = (pod.field("seccompProfile"), *(part.field("seccompProfile") for part in bare))
        yield Violation(f"seccompProfile (pod or {_named(bare)} {must})", fields)


def _sysctls(allowed: set[str], pod: _Part, _: list[_Part]) -> Iterator[Violation]:
    names = [str(one.get("name") or "") for one in _maps(pod.security.get("sysctls"))]
    bad = {pod.field("sysctls", number): name for number, name in enumerate(names) if name not in allowed}
    if bad:
        yield Violation(f"forbidden sysctls ({', '.join(bad.values())})", tuple(bad))


def _escalation(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad = [part for part in containers if part.security.get("allowPrivilegeEscalation") is not False]
    field = ("allowPrivilegeEscalation",)
    must = "must set securityContext.allowPrivilegeEscalation=false"
    yield from _setters("allowPrivilegeEscalation != false", must, field, bad)


def _restricted_capabilities(_: _Part, containers: list[_Part]) -> Iterator[Violation]:
    keeping = [part for part in containers if "ALL" not in _capabilities(part, "drop")]
    adding, fields = _adds(containers, {"NET_BIND_SERVICE"})
    dropping = f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]' if keeping else ""
    if keeping or adding:
        detail = "; ".join(text for text in (dropping, adding) if text)
        fields = (*(part.field("capabilities", "drop") for part in keeping), *fields)
        yield Violation(f"unrestricted capabilities ({detail})", fields)


def _non_root(pod: _Part, containers: list[_Part]) -> Iterator[Violation]:
    said = [part for part in (pod, *containers) if part.security.get("runAsNonRoot") is False]
    must = "must not set securityContext.runAsNonRoot=false"
    yield from _setters("runAsNonRoot != true", must, ("runAsNonRoot",), said)
    bare = [part for part in containers if part.security.get("runAsNonRoot") is None]
    if bare and not said and pod.security.get("runAsNonRoot") is None:
        fields = (pod.field("runAsNonRoot"), *(part.field("runAsNonRoot") for part in bare))
        who = f"pod or {_named(bare)}"
        yield Violation(f"runAsNonRoot != true ({who} must set securityContext.runAsNonRoot=true)", fields)


def _user(pod: _Part, containers: list[_Part]) -> Iterator[Violation]:
    bad = [one for one in (pod, *containers) if one.security.get("runAsUser") == 0]
    yield from _setters("runAsUser=0", "must not set runAsUser=0", ("runAsUser",), bad)


def _known(since: Mapping[str, Version], version: Version) -> set[str]:
    """What is allowed in this version of the standard."""
    return {name for name, first in since.items() if first <= version}


def _checks(level: str, version: Version) -> Iterator[Check]:
    """The checks of a level, as this version of the standard has them."""
    if level == "privileged":
        return
    yield from (_app_armor, _host_namespaces, _host_ports, _privileged)
    yield partial(_selinux, _known(_SELINUX_TYPES, version))
    yield partial(_sysctls, _known(_SYSCTLS, version))
    if version >= _PROBE_HOSTS_SINCE:
        yield _probe_hosts
    own_users = _unless_own_users if version >= _OWN_USERS_SINCE else lambda check: check
    if level == "baseline":
        yield from (own_users(_proc_mount), _baseline_capabilities, _host_paths, _seccomp_unconfined)
    else:
        yield from (_proc_mount, _escalation, _restricted_capabilities, _restricted_volumes, _seccomp_set)
        yield from (own_users(_non_root), own_users(_user))
