# SPDX-License-Identifier: Apache-2.0
"""Pods that do what the values files do not, and what a real API server (1.35) has said of each, by level and version.

strange_pods.json is what it said; PODSECURITY_RECORD=1 scripts/test --cluster -k strange writes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Object = dict[str, Any]

LEVELS = ("baseline", "restricted")
VERSIONS = ("latest", "v1.34", "v1.33", "v1.30", "v1.28", "v1.26")
RECORD = Path(__file__).with_suffix(".json")


def context(**fields: Any) -> Object:
    return {"securityContext": fields}


GOOD = context(allowPrivilegeEscalation=False, capabilities={"drop": ["ALL"]}, runAsNonRoot=True)
PROBE = {"tcpSocket": {"port": 22, "host": "10.0.0.1"}}
OTHER = {"httpGet": {"port": 22, "host": "10.0.0.2"}}
ALL = context(privileged=True)
UNCONFINED, DEFAULT = {"type": "Unconfined"}, {"type": "RuntimeDefault"}
SYSCTLS = (
    *("kernel.msgmax", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range"),
)
NFS = {"nfs": {"server": "s", "path": "/"}}
FLEX = {"flexVolume": {"driver": "a/b"}}


def port(number: int, host: int) -> Object:
    return {"containerPort": number, "hostPort": host}


# The pod's own fields, then one map for each container.
PODS: dict[str, tuple[Object, list[Object]]] = {
    "nothing": (context(seccompProfile=DEFAULT), [GOOD]),
    "bare": ({}, [{}]),
    "two-bare": ({}, [{}, {}]),
    "host": ({"hostNetwork": True, "hostPID": True}, [{}]),
    "host-ipc": ({"hostIPC": True, "hostPID": False}, [GOOD]),
    "volumes": ({"volumes": [{"name": "n", **NFS}, {"name": "e", "emptyDir": {}}]}, [{}]),
    "more-volumes": ({"volumes": [{"name": "a", **NFS}, {"name": "b", **NFS}, {"name": "c", **FLEX}]}, [GOOD]),
    "host-path": ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b"}]}, [GOOD]),
    "host-paths": ({"volumes": [{"name": name, "hostPath": {"path": "/"}} for name in "ab"]}, [GOOD]),
    "sysctl": (context(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), [{}]),
    "sysctls": (context(sysctls=[{"name": name, "value": "1"} for name in SYSCTLS]), [{}]),
    "root": (context(runAsUser=0, runAsNonRoot=False), [context(runAsUser=0)]),
    "roots": ({}, [context(runAsUser=0, runAsNonRoot=False), context(runAsUser=0, runAsNonRoot=False), GOOD]),
    "not-root": (context(runAsNonRoot=True), [{}, context(runAsNonRoot=False)]),
    "no-root-in-all": (context(runAsNonRoot=True), [{}, {}]),
    "root-of-its-own": ({"hostUsers": False, **context(runAsUser=0, runAsNonRoot=False)}, [GOOD]),
    "bare-of-its-own": ({"hostUsers": False}, [{}]),
    "root-as-elsewhere": ({"hostUsers": True, **context(runAsUser=0)}, [GOOD]),
    "another-user": (context(runAsUser=1), [context(runAsUser=2), GOOD]),
    "seccomp": (context(seccompProfile=UNCONFINED), [GOOD]),
    "seccomp-of-one": ({}, [context(seccompProfile=DEFAULT), {}]),
    "seccomp-of-each": ({}, [context(seccompProfile=DEFAULT), context(seccompProfile=UNCONFINED)]),
    "seccomp-of-all": (context(seccompProfile=DEFAULT), [context(seccompProfile=UNCONFINED)] * 2),
    "selinux": (context(seLinuxOptions={"type": "foo", "user": "u"}), [context(seLinuxOptions={"role": "r"})]),
    "selinux-types": ({}, [context(seLinuxOptions={"type": name}) for name in ("foo", "bar", "container_t")]),
    "selinux-engine": (context(seLinuxOptions={"type": "container_engine_t", "level": "s0"}), [GOOD]),
    "selinux-user": (context(seLinuxOptions={"user": "u"}), [GOOD]),
    "armour": ({}, [context(appArmorProfile=UNCONFINED)]),
    "armour-of-all": (context(appArmorProfile=UNCONFINED), [context(appArmorProfile=UNCONFINED), GOOD]),
    "armour-that-is-good": (context(appArmorProfile=DEFAULT), [GOOD]),
    "privileged": ({}, [context(privileged=True), {}]),
    "two-privileged": ({}, [context(privileged=True), context(privileged=True), context(privileged=False)]),
    "mounts": ({"hostUsers": False}, [context(procMount="Unmasked")]),
    "two-mounts": ({"hostUsers": False}, [context(procMount="Unmasked"), context(procMount="Unmasked"), GOOD]),
    "port": ({}, [{"ports": [port(80, 80), {"containerPort": 82}]}, GOOD]),
    "ports": ({}, [{"ports": [port(80, 80), port(81, 81)]}]),
    "ports-of-two": ({}, [{"ports": [port(80, 90)]}, {"ports": [port(80, 80), port(81, 81)]}]),
    "probe": ({}, [{"startupProbe": PROBE}]),
    "probes": ({}, [{"livenessProbe": PROBE}, {"readinessProbe": PROBE}]),
    "hooks": ({}, [{"lifecycle": {"postStart": OTHER, "preStop": PROBE}, "readinessProbe": OTHER}]),
    "probe-without-host": ({}, [{"livenessProbe": {"tcpSocket": {"port": 22}}, "lifecycle": {"preStop": None}}]),
    "more-rights": ({}, [context(capabilities={"add": ["SYS_PTRACE", "CHOWN"]}), {}]),
    "rights-of-two": (
        {},
        [context(capabilities={"add": ["SYS_ADMIN", "KILL"], "drop": ["ALL"]}), context(capabilities={"add": ["A"]})],
    ),
    "one-right-more": ({}, [context(capabilities={"add": ["KILL"], "drop": ["ALL"]})]),
    "allowed-rights": ({}, [context(capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]})]),
    "dropped-but-one": ({}, [context(capabilities={"drop": ["KILL"]}), GOOD]),
    "escalation": ({}, [context(allowPrivilegeEscalation=True), GOOD]),
    "a-first-container": ({"initContainers": [{"name": "i", "image": "x"}]}, [GOOD]),
    "first-and-second": ({"initContainers": [{"name": "i", "image": "x", **ALL}]}, [ALL]),
}  # fmt: skip


def spec_of(case: str) -> Object:
    """The spec of a strange pod."""
    fields, containers = PODS[case]
    return fields | {
        "containers": [{"name": f"c{place}", "image": "x"} | more for place, more in enumerate(containers)]
    }


def recorded(level: str, version: str) -> dict[str, str]:
    """Pod -> what the server said of it, empty if nothing; of an older version only what differs is kept."""
    said = json.loads(RECORD.read_text())
    return {**said[f"{level}:latest"], **said[f"{level}:{version}"]}


def record(level: str, version: str, said: dict[str, str]) -> None:
    """Keep what the server said; `latest` comes first."""
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    latest = {} if version == "latest" else kept[f"{level}:latest"]
    kept[f"{level}:{version}"] = {case: text for case, text in said.items() if text != latest.get(case)}
    RECORD.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def left_over(said: str, sentences: Iterable[str]) -> str:
    """What remains of the server's text, and what it did not say, once these sentences are taken out of it."""
    for sentence in sentences:
        said = said.replace(sentence, "", 1) if sentence in said else f"{said} NOT SAID: {sentence}"
    return said.strip(", ")
