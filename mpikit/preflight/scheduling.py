# SPDX-License-Identifier: Apache-2.0
"""Compare what a pod needs with what the nodes have. Pure arithmetic.

Sources: the scheduler's plugins NodeResourcesFit, NodeAffinity, TaintToleration and NodeUnschedulable. Not
considered: affinity between pods (but one worker a node), topology spread, host ports of other jobs, volumes that only
some nodes reach, preemption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

from mpikit.devices import cards_of
from mpikit.kube.affinity import HOSTNAME, REQUIRED
from mpikit.kube.pods import OVER
from mpikit.kube.resources import Object, conditions_of
from mpikit.preflight.pod_requests import Amounts, added, amounts, needs, written
from mpikit.text.nested import at

_FORGIVEN_TAINTS = ("unschedulable", "not-ready", "unreachable")  # reported as cordoned and not Ready instead
_PERMANENT_OWNERS = ("DaemonSet", "Node")  # their pods stay on a node when jobs end


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a node cannot run a pod, even if the node is empty."""

    kind: Literal["absent", "cordoned", "selector", "affinity", "taint", "resource"]
    subject: str = ""
    """The label a=b, taint a=b:NoSchedule or resource that it is about."""
    left: str = ""
    """How much of the resource there is at most."""

    @property
    def what(self) -> str:
        """In words: not Ready, no label a=b, 4 of habana.ai/gaudi, ..."""
        match self.kind:
            case "absent":
                return "not Ready"
            case "cordoned":
                return "cordoned"
            case "selector":
                return f"no label {self.subject}"
            case "affinity":
                return "not in the node affinity"
            case "taint":
                return f"taint {self.subject}"
            case "resource":
                return f"{self.left} of {self.subject}"


@dataclass(frozen=True)
class Node:
    """The parts of a node that the kit reads."""

    raw: Object

    @cached_property
    def name(self) -> str:
        """Its name."""
        return str(self.raw["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return at(self.raw, "metadata", "labels") or {}

    @cached_property
    def allocatable(self) -> dict[str, Fraction]:
        """What its pods may have together."""
        return amounts(at(self.raw, "status", "allocatable"))

    @property
    def ready(self) -> bool:
        """Whether the node is Ready."""
        condition = conditions_of(self.raw).get("Ready")
        return condition is not None and condition.true

    @property
    def cordoned(self) -> bool:
        """Whether the node is cordoned."""
        return bool(at(self.raw, "spec", "unschedulable"))


def hindrances(node: Node, spec: Mapping[str, Any], taken: Amounts, need: Amounts | None = None) -> list[Hindrance]:
    """Everything that keeps a pod of this spec off a node on which `taken` is in use for good.

    `need`: needs(spec), from a caller that compares the spec with many nodes.
    """
    found = [] if node.ready else [Hindrance("absent")]
    found += [Hindrance("cordoned")] if node.cordoned else []
    for key, value in (spec.get("nodeSelector") or {}).items():
        if node.labels.get(key) != value:
            found.append(Hindrance("selector", f"{key}={value}"))
    if not _affine(node, at(spec, "affinity", "nodeAffinity", REQUIRED)):
        found.append(Hindrance("affinity"))
    for taint in at(node.raw, "spec", "taints") or ():
        if _repels(taint, spec.get("tolerations") or ()):
            value = f"={taint['value']}" if taint.get("value") else ""
            found.append(Hindrance("taint", f"{taint['key']}{value}:{taint['effect']}"))
    for name, least in (needs(spec) if need is None else need).items():
        have = node.allocatable.get(name, Fraction(0)) - taken.get(name, Fraction(0))
        if have < least:
            found.append(Hindrance("resource", name, written(name, max(have, Fraction(0)))))
    return found


def _repels(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    if taint.get("effect") not in ("NoSchedule", "NoExecute"):
        return False
    if taint["key"] in [f"node.kubernetes.io/{name}" for name in _FORGIVEN_TAINTS]:
        return False
    return not any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _affine(node: Node, required: Mapping[str, Any] | None) -> bool:
    """Whether the node matches one of the terms; a term without a rule matches no node."""
    if required is None:
        return True
    names = {"metadata.name": node.name}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(holds(rule, node.labels) for rule in term.get("matchExpressions") or ())
        and all(holds(rule, names) for rule in term.get("matchFields") or ())
        for term in required.get("nodeSelectorTerms") or ()
    )


def holds(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One rule of a selector: key, operator, values."""
    value, wanted = labels.get(rule["key"]), list(rule.get("values") or ())
    match rule["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not value.lstrip("-").isdigit():
                return False
            return int(value) > int(wanted[0]) if operator == "Gt" else int(value) < int(wanted[0])
    return False


def _one_a_node(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether pods of these labels keep each other off a node, by an anti-affinity or a port of the node."""
    ports = [port for one in spec.get("containers") or () for port in one.get("ports") or ()]
    if any(port.get("hostPort") or (spec.get("hostNetwork") and port.get("containerPort")) for port in ports):
        return True
    terms = at(spec, "affinity", "podAntiAffinity", REQUIRED) or ()
    return any(term.get("topologyKey") == HOSTNAME and _selects(term.get("labelSelector"), labels) for term in terms)


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return False
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(holds(rule, labels) for rule in selector.get("matchExpressions") or ())


@dataclass(frozen=True, slots=True)
class Usage:
    """What the pods of a cluster use, by node."""

    taken: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    lasting: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    """The part that stays when jobs end: DaemonSets, static pods."""
    holders: dict[str, dict[str, int]] = field(default_factory=dict)
    """Cards by node and namespace/job."""


def usage(pods: Iterable[Object], owner: Callable[[Object], str]) -> Usage:
    """Return what pods use; `owner` names the job of a pod."""
    held = Usage()
    for pod in pods:
        node, spec = at(pod, "spec", "nodeName"), pod.get("spec") or {}
        if not node or at(pod, "status", "phase") in OVER:
            continue
        own = needs(spec)
        held.taken[node] = added(held.taken.get(node, {}), own)
        if any(one.get("kind") in _PERMANENT_OWNERS for one in at(pod, "metadata", "ownerReferences") or ()):
            held.lasting[node] = added(held.lasting.get(node, {}), own)
        if cards := cards_of(spec):
            by_owner = held.holders.setdefault(node, defaultdict(int))
            by_owner[owner(pod)] += cards
    return held


def rooms(
    nodes: Iterable[Node], template: Mapping[str, Any], lasting: Mapping[str, Amounts], taken: Mapping[str, Amounts]
) -> dict[str, int]:
    """How many pods of a template each node could take, by name of the nodes that could ever take one.

    `lasting` decides which nodes these are, `taken` how much is free on them.
    """
    spec = template.get("spec") or {}
    need, single = needs(spec), _one_a_node(spec, at(template, "metadata", "labels") or {})
    able = (node for node in nodes if not hindrances(node, spec, lasting.get(node.name, {}), need))
    return {node.name: _room(node, need, taken.get(node.name, {}), single) for node in able}


def _room(node: Node, need: Amounts, held: Amounts, single: bool) -> int:
    """How many pods with these needs still fit on a node; `single`: one at most."""
    fit = min((node.allocatable[name] - held.get(name, Fraction(0))) // value for name, value in need.items())
    return max(0, min(fit, 1) if single else fit)


def beside(
    nodes: Sequence[Node],
    launcher: Mapping[str, Any],
    worker: Mapping[str, Any],
    num_workers: int,
    lasting: Mapping[str, Amounts],
    taken: Mapping[str, Amounts],
) -> list[str]:
    """Nodes that can take the launcher so that as many workers as before still find a place."""
    need, spec = needs(launcher.get("spec") or {}), worker.get("spec") or {}
    each, single = needs(spec), _one_a_node(spec, at(worker, "metadata", "labels") or {})
    places = rooms(nodes, worker, lasting, taken)
    total = sum(places.values())
    wanted, found, by_name = min(num_workers, total), [], {node.name: node for node in nodes}
    for name, room in rooms(nodes, launcher, lasting, taken).items():
        if not room:
            continue
        with_it = added(taken.get(name, {}), need)
        left = _room(by_name[name], each, with_it, single) if name in places else 0
        if total - places.get(name, 0) + left >= wanted:
            found.append(name)
    return found
