# SPDX-License-Identifier: Apache-2.0
"""Whether the quotas and the nodes have place for a job, ever and now, in words."""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from mpikit.answers import Object
from mpikit.api import NODE, POD, QUOTA, find_all
from mpikit.capacity import (
    HOSTNAME,
    Hindrance,
    Node,
    Shortage,
    Usage,
    beside,
    hindrances,
    job_objects,
    needs,
    rooms,
    shortages,
    usage,
    written,
)
from mpikit.cluster import Cluster
from mpikit.errors import Forbidden
from mpikit.job import Job
from mpikit.objects import JOB_NAME, at
from mpikit.premises import Check
from mpikit.profiles import CARD_RESOURCES

NAMED = 3  # nodes or holders that a line names; the rest is counted
_EXCEEDED = re.compile(r"exceeded quota: ([^,\s]+), requested: \S+, used: (\S+), limited: (\S+)")

Templates = Mapping[str, Object]
"""Pod templates of Worker and Launcher, as the cluster would admit them where it told."""


# -- Quotas -----------------------------------------------------------------------------------------------------------


def check_quotas(
    cluster: Cluster, job: Job, manifests: Sequence[Object], namespace: str, pods: Templates, refusals: Iterable[str]
) -> Iterator[Check]:
    """Whether each ResourceQuota has enough for the whole job, ever and now.

    `refusals`: what the server said of single pods, all that is known of quotas that may not be read.
    """
    try:
        quotas = list(find_all(cluster, QUOTA, namespace))
    except Forbidden:  # the rights say so already
        quotas = [quota for text in refusals if (quota := told_quota(text))]
    others = job_objects(sum(item["kind"] == "ConfigMap" for item in manifests))
    found = [check for quota in quotas if (check := quota_check(quota, job, namespace, pods, others))]
    names = ", ".join(quota["metadata"]["name"] for quota in quotas)
    enough = (
        f"ResourceQuota {names}: enough for the whole job" if quotas else f"no ResourceQuota in {namespace} is seen"
    )
    yield from found or [Check("quota", "ok", enough)]


def told_quota(refusal: str) -> Object | None:
    """The quota that a refusal is about, as far as it tells."""
    found = _EXCEEDED.search(refusal)
    if not found:
        return None
    used, hard = (dict(pair.split("=", 1) for pair in text.split(",")) for text in found.groups()[1:])
    return {"metadata": {"name": found[1]}, "spec": {"hard": hard}, "status": {"used": used}}


def quota_check(
    quota: Object, job: Job, namespace: str, pods: Templates, others: Mapping[str, Fraction]
) -> Check | None:
    """What a quota has too little of; None if it has enough."""
    name = quota["metadata"]["name"]

    def short(num_workers: int) -> list[Shortage] | None:
        return shortages(quota, [(pods["Worker"]["spec"], num_workers), (pods["Launcher"]["spec"], 1)], others)

    found = short(job.nodes)
    if found is None:
        hard = ", ".join(f"{key} {value}" for key, value in (at(quota, "spec", "hard") or {}).items())
        message = f"ResourceQuota {name} has a scope that is not understood here; it allows {hard}"
        return Check("quota", "warning", message, f"kubectl -n {namespace} describe resourcequota {name}: compare it")
    if not found:
        return None
    never = [one for one in found if one.forever]
    fitting = bisect_left(
        range(1, job.nodes), True, key=lambda n: any(one.forever or not never for one in short(n) or ())
    )
    less = f"set nodes: {fitting}" if fitting else f"set less {_keys(never or found)}"
    if never:
        message = f"ResourceQuota {name} never has enough: {'; '.join(_allowed(one) for one in never)}"
        return Check("quota", "fault", message, f"{less}, or ask the site's staff for a larger ResourceQuota {name}")
    message = f"ResourceQuota {name} has too little left now: {'; '.join(_left(one) for one in found)}"
    fix = f"wait, {less}, or free some: python generate.py list -n {namespace} shows what holds cards of {name}"
    return Check("quota", "warning", message, fix)


def _allowed(one: Shortage) -> str:
    return (
        f"the job needs {written(one.resource, one.need)} of {one.resource}, {written(one.resource, one.hard)} allowed"
    )


def _left(one: Shortage) -> str:
    need, used, hard = (written(one.resource, value) for value in (one.need, one.used, one.hard))
    return f"the job needs {need} of {one.resource}, {used} of {hard} are in use"


def _keys(short: Iterable[Shortage]) -> str:
    """Keys of the values that ask for what is short."""
    names = {one.resource.removeprefix("requests.").removeprefix("limits.") for one in short}
    cards = names & set(CARD_RESOURCES)
    return " and ".join([*(["cards:"] if cards else []), *(["resources:"] if names - cards else [])])


# -- Nodes ------------------------------------------------------------------------------------------------------------


def check_nodes(cluster: Cluster, job: Job, pods: Templates, namespace: str) -> Iterator[Check]:
    """Whether the nodes could ever take all workers and the launcher, and whether they can now."""
    try:
        nodes = [Node(item) for item in find_all(cluster, NODE, None)]
    except Forbidden:  # the rights say so already
        return
    held: Usage | None = None
    with contextlib.suppress(Forbidden):
        held = usage(find_all(cluster, POD, None, fields="status.phase!=Succeeded,status.phase!=Failed"), _owner)
    yield workers_check(job, nodes, pods["Worker"], held, namespace)
    yield launcher_check(job, nodes, pods, held, namespace)


def _owner(pod: Object) -> str:
    metadata = pod["metadata"]
    return f"{metadata['namespace']}/{(metadata.get('labels') or {}).get(JOB_NAME) or metadata['name']}"


def fitting_nodes(cluster: Cluster, template: Object) -> list[str]:
    """Host names of the nodes that could ever take a pod; none if nodes may not be read."""
    try:
        nodes = {node.name: node for node in map(Node, find_all(cluster, NODE, None))}
    except Forbidden:
        return []
    return [nodes[name].labels.get(HOSTNAME, name) for name in rooms(list(nodes.values()), template, {}, {})]


def workers_check(job: Job, nodes: Sequence[Node], worker: Object, held: Usage | None, namespace: str) -> Check:
    """Whether all workers find a place."""
    lasting, taken = (held.lasting, held.taken) if held else ({}, {})
    ever, now = rooms(nodes, worker, lasting, lasting), rooms(nodes, worker, lasting, taken)
    resource = job.profile.resource
    what = f"{job.cards} free cards of {resource}" if resource else f"room for {_asked(worker)}"
    several = any(room > 1 for room in ever.values())
    away = _left_out(nodes, worker["spec"], lasting)
    if not ever:
        reason, fix = _closest(nodes, worker["spec"], lasting, job, "worker", namespace)
        return Check("nodes", "fault", f"no node could ever take a worker ({_asked(worker)}): {reason}", fix)
    if sum(ever.values()) < job.nodes:
        places = f"{sum(ever.values())} workers on {len(ever)} nodes" if several else f"{len(ever)} nodes"
        message = f"{places} could ever have {what}, {job.nodes} are needed{away}"
        fix = f"set nodes: {sum(ever.values())} or fewer" + (
            ", or wait for those nodes (kubectl get nodes)" if away else ""
        )
        return Check("nodes", "fault", message, fix)
    if held is None:
        message = f"{len(ever)} nodes can have {what}, {job.nodes} needed; what is free now is not for you to see{away}"
        return Check("nodes", "ok", message)
    free = sum(room > 0 for room in now.values())
    message = f"{free} of {len(ever)} nodes have {what} now" + (f", for {sum(now.values())} workers" if several else "")
    message += f", {job.nodes} {'is' if job.nodes == 1 else 'are'} needed"
    if sum(now.values()) >= job.nodes:
        return Check("nodes", "ok", message + away)
    fix = f"wait, set nodes: {sum(now.values())}, or free some" if sum(now.values()) else "wait, or free some"
    fix += " (python generate.py list): workers that fit start and hold their cards while the others wait"
    return Check("nodes", "warning", f"{message}; full: {_full(nodes, now, worker['spec'], held)}{away}", fix)


def _asked(template: Object) -> str:
    """What a pod asks for, as people say it."""
    cards_first = sorted(needs(template["spec"]).items(), key=lambda item: (item[0] not in CARD_RESOURCES, item[0]))
    parts = [f"{name} {written(name, value)}" for name, value in cards_first if name != "pods"]
    return ", ".join(parts) or "nothing in particular"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _left_out(nodes: Iterable[Node], spec: Mapping[str, Any], lasting: Mapping[str, Any]) -> str:
    """Nodes that would do if they were there."""
    found = []
    for node in nodes:
        reasons = hindrances(node, spec, lasting.get(node.name, {}))
        if reasons and all(reason.kind in ("absent", "cordoned") for reason in reasons):
            found.append(f"{node.name} ({', '.join(reason.what for reason in reasons)})")
    return f"; left out: {_few(found)}" if found else ""


def _full(nodes: Iterable[Node], now: Mapping[str, int], spec: Mapping[str, Any], held: Usage) -> str:
    """Nodes without room and who holds it."""
    found = []
    for node in nodes:
        if now.get(node.name) != 0:
            continue
        holders = [f"{owner}: {cards} cards" for owner, cards in held.holders.get(node.name, {}).items()]
        short = [one.what for one in hindrances(node, spec, held.taken.get(node.name, {})) if one.kind == "resource"]
        found.append(f"{node.name} ({_few(holders) or _few(short) + ' left'})")
    return _few(found)


def _closest(
    nodes: Sequence[Node], spec: Mapping[str, Any], lasting: Mapping[str, Any], job: Job, role: str, namespace: str
) -> tuple[str, str]:
    """Why the nodes that come nearest to taking a pod do not, and what to change."""
    groups: dict[tuple[Hindrance, ...], list[str]] = defaultdict(list)
    for node in nodes:
        groups[tuple(hindrances(node, spec, lasting.get(node.name, {})))].append(node.name)
    if not groups:
        return "there are no nodes", "ask the site's staff: kubectl get nodes"
    reasons = min(groups, key=lambda group: sum(3 if one.what.startswith("0 of") else 1 for one in group))
    first = next((one for one in reasons if one.kind not in ("absent", "cordoned")), reasons[0])
    has = "have" if len(groups[reasons]) > 1 else "has"
    words = " and ".join(f"{has} {one.what}" if one.kind == "resource" else one.what for one in reasons)
    return f"{_few(groups[reasons])}: {words}", _fix(first, job, role, namespace, groups[reasons][0])


def _fix(reason: Hindrance, job: Job, role: str, namespace: str, node: str) -> str:
    """What to change so that the reason goes."""
    part = job.launcher if role == "launcher" else job.worker
    own = [f"no label {key}={value}" for key, value in part.node_selector.items()]
    resources = "launcher.resources:" if role == "launcher" else "resources:"
    resource = reason.what.partition(" of ")[2]
    match reason.kind:
        case "selector" if reason.what not in own:
            return (
                f"namespace {namespace} or the cluster adds this selector: ask the site's staff which nodes are yours"
            )
        case "selector":
            return f"correct {role}.nodeSelector: in the values (kubectl get nodes --show-labels)"
        case "affinity":
            return f"correct {role}.affinity: in the values (kubectl get nodes --show-labels)"
        case "taint":
            return f"add {role}.tolerations: for the {reason.what}, if the site lets you"
        case "resource" if resource in CARD_RESOURCES and reason.what.startswith("0 of"):
            return f"set device: to what the nodes have (kubectl describe node {node}); none has {resource}"
        case "resource" if resource in CARD_RESOURCES:
            return f"set cards: {reason.what.partition(' of ')[0]} or fewer"
        case "resource":
            return f"set {resources} so that {resource} is at most {reason.what.partition(' of ')[0]}"
    return f"wait for it, or ask the site's staff: kubectl describe node {node}"


def launcher_check(job: Job, nodes: Sequence[Node], pods: Templates, held: Usage | None, namespace: str) -> Check:
    """Whether the launcher finds a place beside the workers."""
    launcher, worker = pods["Launcher"], pods["Worker"]
    lasting, taken = (held.lasting, held.taken) if held else ({}, {})
    if not rooms(nodes, launcher, lasting, lasting):
        reason, fix = _closest(nodes, launcher["spec"], lasting, job, "launcher", namespace)
        return Check("launcher node", "fault", f"no node could ever take the launcher: {reason}", fix)
    ever = beside(nodes, launcher, worker, job.nodes, lasting, lasting)
    asked = _asked(launcher)
    if not ever:
        message = f"no node has place for the launcher ({asked}) once the workers have theirs"
        fix = "set launcher.nodeSelector: to nodes without workers, or less launcher.resources:, resources: or nodes:"
        return Check("launcher node", "fault", message, fix)
    if held is None:
        return Check("launcher node", "ok", f"{len(ever)} nodes can take the launcher ({asked})")
    now = beside(nodes, launcher, worker, job.nodes, lasting, taken)
    if now:
        return Check("launcher node", "ok", f"{len(now)} of {len(ever)} nodes have room for the launcher now ({asked})")
    fix = f"wait, or set less launcher.resources: (kubectl describe node {ever[0]} shows what holds it)"
    message = f"none of {len(ever)} nodes has room for the launcher now ({asked})"
    return Check("launcher node", "warning", message, fix)
