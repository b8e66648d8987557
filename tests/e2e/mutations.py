# SPDX-License-Identifier: Apache-2.0
"""Manifests with a mistake or two: fields deleted, added, renamed, retyped, values from pools of what people write."""

from __future__ import annotations

import copy
import random
from typing import Any

Object = dict[str, Any]

_POOL: tuple[Any, ...] = (
    "",
    " ",
    "a",
    "A",
    "a.b",
    "a_b",
    "-a",
    "a-",
    "9",
    "x" * 64,
    "a/b",
    "a:b",
    "../a",
    "/a",
    "/etc/mpi",
    "/root/.ssh",
    "None",
    "Always",
    "Never",
    "OnFailure",
    "Exists",
    "Memory",
    "Directory",
    "File",
    "NoExecute",
    "TCP",
    "1Gi",
    "100m",
    "1.5",
    "-1",
    "1e3",
    "Gi",
    "ssh-auth",
    0,
    1,
    -1,
    2,
    22,
    70000,
    2**31,
    1.5,
    True,
    False,
    None,
    [],
    {},
    ["a"],
    {"a": "b"},
    {"name": "a"},
)
# Fields that people add, and where they put them.
_ADDED: tuple[tuple[str, Any], ...] = (
    ("replica", 1),
    ("image", "a"),
    ("restartPolicy", "Always"),
    ("terminationGracePeriodSeconds", -1),
    ("serviceAccountName", "A"),
    ("nodeSelector", {"a b": "c"}),
    ("tolerations", [{"operator": "Exists", "value": "a"}]),
    ("tolerations", [{"key": "a", "operator": "Exist"}]),
    ("tolerations", [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
    ("hostAliases", [{"ip": "300.1.1.1", "hostnames": ["a"]}]),
    ("ports", [{"containerPort": 22, "name": "ssh"}, {"containerPort": 23, "name": "ssh"}]),
    ("ports", [{"containerPort": 70000}]),
    ("livenessProbe", {"exec": {"command": ["true"]}, "tcpSocket": {"port": 22}}),
    ("livenessProbe", {"periodSeconds": 1}),
    ("env", [{"name": "A=B", "value": "c"}]),
    ("env", [{"name": "A", "value": "c"}, {"name": "A", "value": "d"}]),
    ("env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
    ("env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nam"}}}]),
    ("envFrom", [{"secretRef": {}}]),
    ("resources", {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
    ("resources", {"requests": {"habana.ai/gaudi": 1}}),
    ("resources", {"limits": {"hugepages-2Mi": "3Mi", "cpu": 1}}),
    ("resources", {"limits": {"hugepages-2Mi": "4Mi"}}),
    ("resources", {"limits": {"gpu": 1}}),
    ("resources", {"limits": {"habana.ai/gaudi": "1.5"}}),
    ("securityContext", {"privileged": True, "allowPrivilegeEscalation": False}),
    ("securityContext", {"runAsUser": -1}),
    ("affinity", {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}}),
    ("dnsPolicy", "Nowhere"),
    ("hostNetwork", True),
    ("initContainers", [{"name": "i", "image": "a"}]),
    ("initContainers", [{"name": "worker", "image": "a"}]),
    ("volumes", [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/a"}}]),
    ("volumes", []),
    ("suspend", True),
    ("managedBy", "me"),
    ("launcherCreationPolicy", "Bogus"),
    ("labels", {"a": "b c"}),
    ("annotations", {"A B": "c"}),
    ("slotsPerWorkers", 8),
    ("backoffLimit", -1),
    ("schedulingPolicy", {"minAvailable": 1, "queue": "q"}),
)
KEPT = {("apiVersion",), ("kind",), ("metadata",), ("metadata", "name"), ("metadata", "namespace"), ("spec",)}


def mutated(job: Object, seed: int) -> tuple[Object, str]:
    """A copy of a job with one to three changes that the seed chooses, and the changes in words."""
    chance, changed = random.Random(seed), copy.deepcopy(job)
    told = [_change(changed, chance) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    return changed, "; ".join(told)


def _change(job: Object, chance: random.Random) -> str:
    path = chance.choice([path for path, _ in _walk(job) if path not in KEPT and path])
    parent: Any = job
    for part in path[:-1]:
        parent = parent[part]
    last, shown = path[-1], ".".join(map(str, path))
    match chance.choice(("delete", "replace", "replace", "rename", "add", "add", "twice")):
        case "delete":
            del parent[last]
            return f"delete {shown}"
        case "rename" if isinstance(last, str):
            parent[last[:-1] + last[-1] * 2] = parent.pop(last)
            return f"rename {shown}"
        case "twice" if isinstance(last, int):
            parent.append(copy.deepcopy(parent[last]))
            return f"repeat {shown}"
        case "add":
            return _add(job, chance)
    alike = [value for value in _POOL if type(value) is type(parent[last])]
    parent[last] = copy.deepcopy(chance.choice(alike if alike and chance.random() < 0.6 else _POOL))
    return f"{shown} = {parent[last]!r:.30}"


def _add(job: Object, chance: random.Random) -> str:
    """Add a field where a field of its name may stand, or in one of ten cases anywhere."""
    name, value = chance.choice(_ADDED)
    maps = [(path, item) for path, item in _walk(job) if isinstance(item, dict) and path]
    homes = [pair for pair in maps if _may_hold(pair[0], name)]
    path, home = chance.choice(homes if homes and chance.random() < 0.9 else maps)
    home[name] = copy.deepcopy(value)
    return f"add {'.'.join(map(str, path))}.{name} = {value!r:.60}"


_CONTAINER = ("image", "ports", "livenessProbe", "env", "envFrom", "resources", "securityContext")
_RUN_POLICY = ("suspend", "managedBy", "backoffLimit", "schedulingPolicy")


def _may_hold(path: tuple[Any, ...], name: str) -> bool:
    if name in ("labels", "annotations"):
        return bool(path[-1] == "metadata")
    if name in _RUN_POLICY:
        return bool(path[-1] == "runPolicy")
    if name in ("slotsPerWorkers", "launcherCreationPolicy"):
        return path == ("spec",)
    if name in _CONTAINER:
        return len(path) > 1 and path[-2] == "containers"
    return path[-2:] == ("template", "spec")


def _walk(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    found = [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        found += _walk(item, (*path, name))
    return found
