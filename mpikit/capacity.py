# SPDX-License-Identifier: Apache-2.0
"""What a job needs and what a cluster has for it: nodes, what is free on them, quotas. Pure arithmetic.

Sources: the scheduler's plugins NodeResourcesFit, NodeAffinity, TaintToleration and NodeUnschedulable; the quota
evaluator of pods (kubernetes/pkg/quota/v1/evaluator/core/pods.go). Not looked at: affinity between pods (but one
worker a node), topology spread, host ports, volumes that only some nodes reach, preemption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from mpikit.objects import OVER, Object, at, cards_of, conditions_of
from mpikit.quantities import quantity

Amounts = Mapping[str, Fraction]

_BINARY = ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki")
_BYTES = ("memory", "storage", "hugepages-")
_FORGIVEN_TAINTS = ("unschedulable", "not-ready", "unreachable")  # told as cordoned and not Ready instead
_PERMANENT_OWNERS = ("DaemonSet", "Node")  # their pods stay on a node whatever jobs come and go
HOSTNAME = "kubernetes.io/hostname"
ONE = Fraction(1)


def written(resource: str, value: Fraction) -> str:
    """An amount as people read it: 409Gi of memory, 1.5 of cpu, 8 cards."""
    if any(word in resource for word in _BYTES) and value >= 1024:
        unit = next(name for name in _BINARY if value >= quantity(f"1{name}"))
        return f"{float(value / quantity(f'1{unit}')):.4g}{unit}"
    return str(int(value)) if value.denominator == 1 else f"{float(value):.4g}"


def _amounts(found: Mapping[str, object] | None) -> dict[str, Fraction]:
    return {name: quantity(value) for name, value in (found or {}).items()}


def _added(*parts: Amounts) -> dict[str, Fraction]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum((part.get(name, Fraction(0)) for part in parts), Fraction(0)) for name in names}


def _largest(*parts: Amounts) -> dict[str, Fraction]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: max(part.get(name, Fraction(0)) for part in parts) for name in names}


def _times(part: Amounts, count: int) -> dict[str, Fraction]:
    return {name: value * count for name, value in part.items()}


# -- What a pod asks for ----------------------------------------------------------------------------------------------


def _requests(container: Mapping[str, Any]) -> dict[str, Fraction]:
    """Requests of a container; a limit without a request is one."""
    resources = container.get("resources") or {}
    return _amounts(resources.get("limits")) | _amounts(resources.get("requests"))


def _limits(container: Mapping[str, Any]) -> dict[str, Fraction]:
    return _amounts((container.get("resources") or {}).get("limits"))


def _of_pod(spec: Mapping[str, Any], of: Callable[[Mapping[str, Any]], dict[str, Fraction]]) -> dict[str, Fraction]:
    """All containers together, or the largest moment before they start; amounts of the pod itself stand above both."""
    lasting: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers") or ():
        moment = _added(lasting, of(container))
        peak = _largest(peak, moment)
        if container.get("restartPolicy") == "Always":  # a sidecar: it stays
            lasting = moment
    together = _added(lasting, *(of(container) for container in spec.get("containers") or ()))
    return _added(_largest(together, peak) | of(spec), _amounts(spec.get("overhead")))


def needs(spec: Mapping[str, Any]) -> dict[str, Fraction]:
    """What the scheduler sets aside on a node for a pod of this spec."""
    return {name: value for name, value in _of_pod(spec, _requests).items() if value} | {"pods": ONE}


# -- Nodes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a node takes no pod of a spec, however empty it is."""

    kind: Literal["absent", "cordoned", "selector", "affinity", "taint", "resource"]
    what: str
    """In words: not Ready, no label a=b, 4 of habana.ai/gaudi, ..."""


@dataclass(frozen=True, slots=True)
class Node:
    """What the kit asks of a node."""

    raw: Object

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.raw["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return at(self.raw, "metadata", "labels") or {}

    @property
    def allocatable(self) -> dict[str, Fraction]:
        """What its pods may have together."""
        return _amounts(at(self.raw, "status", "allocatable"))

    @property
    def ready(self) -> bool:
        """Whether its kubelet is alive and well."""
        condition = conditions_of(self.raw).get("Ready")
        return condition is not None and condition.true

    @property
    def cordoned(self) -> bool:
        """Whether somebody keeps new pods away from it."""
        return bool(at(self.raw, "spec", "unschedulable"))


def hindrances(node: Node, spec: Mapping[str, Any], taken: Amounts) -> list[Hindrance]:
    """Everything that keeps a pod of this spec off a node on which `taken` is in use for good."""
    found = [] if node.ready else [Hindrance("absent", "not Ready")]
    found += [Hindrance("cordoned", "cordoned")] if node.cordoned else []
    for key, value in (spec.get("nodeSelector") or {}).items():
        if node.labels.get(key) != value:
            found.append(Hindrance("selector", f"no label {key}={value}"))
    if not _affine(node, at(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")):
        found.append(Hindrance("affinity", "not in the node affinity"))
    for taint in at(node.raw, "spec", "taints") or ():
        if _repels(taint, spec.get("tolerations") or ()):
            value = f"={taint['value']}" if taint.get("value") else ""
            found.append(Hindrance("taint", f"taint {taint['key']}{value}:{taint['effect']}"))
    for name, need in needs(spec).items():
        have = node.allocatable.get(name, Fraction(0)) - taken.get(name, Fraction(0))
        if have < need:
            found.append(Hindrance("resource", f"{written(name, max(have, Fraction(0)))} of {name}"))
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
    """Whether one of the terms holds; a term without a rule holds nowhere."""
    if required is None:
        return True
    names = {"metadata.name": node.name}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(_holds(rule, node.labels) for rule in term.get("matchExpressions") or ())
        and all(_holds(rule, names) for rule in term.get("matchFields") or ())
        for term in required.get("nodeSelectorTerms") or ()
    )


def _holds(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
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
    """Whether pods of these labels keep each other off a node."""
    terms = at(spec, "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution") or ()
    return any(term.get("topologyKey") == HOSTNAME and _selects(term.get("labelSelector"), labels) for term in terms)


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return False
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(rule, labels) for rule in selector.get("matchExpressions") or ())


@dataclass(frozen=True, slots=True)
class Usage:
    """What the pods of a cluster hold, by node."""

    taken: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    lasting: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    """The part of it that no job gives back: DaemonSets, static pods."""
    holders: dict[str, dict[str, int]] = field(default_factory=dict)
    """Cards by node and namespace/job."""


def usage(pods: Iterable[Object], owner: Callable[[Object], str]) -> Usage:
    """What pods hold; `owner` names whose a pod is."""
    held = Usage()
    for pod in pods:
        node, spec = at(pod, "spec", "nodeName"), pod.get("spec") or {}
        if not node or at(pod, "status", "phase") in OVER:
            continue
        own = needs(spec)
        held.taken[node] = _added(held.taken.get(node, {}), own)
        if any(one.get("kind") in _PERMANENT_OWNERS for one in at(pod, "metadata", "ownerReferences") or ()):
            held.lasting[node] = _added(held.lasting.get(node, {}), own)
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
    found = {}
    for node in nodes:
        if hindrances(node, spec, lasting.get(node.name, {})):
            continue
        held, have = taken.get(node.name, {}), node.allocatable
        fit = min((have[name] - held.get(name, Fraction(0))) // value for name, value in need.items())
        found[node.name] = max(0, min(fit, 1) if single else fit)
    return found


def beside(
    nodes: Sequence[Node],
    launcher: Mapping[str, Any],
    worker: Mapping[str, Any],
    num_workers: int,
    lasting: Mapping[str, Amounts],
    taken: Mapping[str, Amounts],
) -> list[str]:
    """Nodes that can take the launcher so that as many workers as before still find a place."""
    need = needs(launcher.get("spec") or {})
    places = rooms(nodes, worker, lasting, taken)
    total = sum(places.values())
    wanted, found = min(num_workers, total), []
    for name, room in rooms(nodes, launcher, lasting, taken).items():
        node = [one for one in nodes if one.name == name]
        with_it = {name: _added(taken.get(name, {}), need)}
        left = rooms(node, worker, lasting, with_it).get(name, 0)
        if room and total - places.get(name, 0) + left >= wanted:
            found.append(name)
    return found


# -- Quotas -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource of which a ResourceQuota has too little for the whole job."""

    resource: str
    need: Fraction
    hard: Fraction
    used: Fraction

    @property
    def forever(self) -> bool:
        """Whether the job would not fit into an unused quota either."""
        return self.need > self.hard


def quota_use(spec: Mapping[str, Any]) -> dict[str, Fraction]:
    """What a pod of this spec counts in a ResourceQuota."""
    found = {"pods": ONE, "count/pods": ONE}
    for name, value in _of_pod(spec, _requests).items():
        found[f"requests.{name}"] = value
        if name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-"):
            found[name] = value
    for name, value in _of_pod(spec, _limits).items():
        if name in ("cpu", "memory", "ephemeral-storage"):
            found[f"limits.{name}"] = value
    return found


def job_objects(num_config_maps: int) -> dict[str, Fraction]:
    """What a job counts beside its pods: the MPIJob, and what the operator makes for it."""
    counts = {"configmaps": num_config_maps + 1, "services": 1, "secrets": 1}  # -config, the headless Service, -ssh
    others = {"count/mpijobs.kubeflow.org": 1, "count/jobs.batch": 1}
    return {
        name: Fraction(count)
        for name, count in (counts | {f"count/{k}": v for k, v in counts.items()} | others).items()
    }


def shortages(quota: Object, pods: Sequence[tuple[Mapping[str, Any], int]], others: Amounts) -> list[Shortage] | None:
    """What a quota has too little of for (spec, count) pods and other objects; None if its scope is not understood."""
    scopes = _scopes(quota)
    answers = [[_in_scope(scope, spec) for scope in scopes] for spec, _ in pods]
    if any(answer is None for row in answers for answer in row):
        return None
    inside = [pod for pod, row in zip(pods, answers, strict=True) if all(row)]
    need = _added(*(_times(quota_use(spec), count) for spec, count in inside), {} if scopes else others)
    hard, used = _amounts(at(quota, "spec", "hard")), _amounts(at(quota, "status", "used"))
    return [
        Shortage(name, need[name], limit, used.get(name, Fraction(0)))
        for name, limit in hard.items()
        if need.get(name, Fraction(0)) > max(Fraction(0), limit - used.get(name, Fraction(0)))
    ]


def _scopes(quota: Object) -> list[dict[str, Any]]:
    plain = [{"scopeName": name, "operator": "Exists"} for name in at(quota, "spec", "scopes") or ()]
    return [*plain, *(at(quota, "spec", "scopeSelector", "matchExpressions") or ())]


def _in_scope(scope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool | None:
    """Whether a quota of this scope counts a pod; None if that is not known here."""
    match scope["scopeName"]:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort" | "NotBestEffort" as name:
            return _best_effort(spec) is (name == "BestEffort")
        case "PriorityClass":
            labels = {"class": str(spec["priorityClassName"])} if spec.get("priorityClassName") else {}
            return _holds({**scope, "key": "class"}, labels)
    return None


def _best_effort(spec: Mapping[str, Any]) -> bool:
    """Whether a pod names no cpu and no memory at all."""
    every = [spec, *(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return not any(_requests(one).get(name) for one in every for name in ("cpu", "memory"))
