# SPDX-License-Identifier: Apache-2.0
"""Check that the nodes have room for a job, ever and now."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpikit.config.job import Job
from mpikit.devices import CARD_RESOURCES
from mpikit.diagnostics import Diagnostic, Found, fault, passed, warning
from mpikit.errors import Forbidden
from mpikit.kube.affinity import HOSTNAME
from mpikit.kube.answers import Object
from mpikit.kube.api import NODE, POD, find_all
from mpikit.kube.client import Cluster
from mpikit.kube.resources import JOB_NAME
from mpikit.preflight.pod_requests import needs, written
from mpikit.preflight.quota import Templates
from mpikit.preflight.scheduling import Hindrance, Node, Usage, beside, hindrances, rooms, usage

NAMED = 3  # nodes or jobs that a line names; the rest is counted


def check_nodes(cluster: Cluster, job: Job, pods: Templates, namespace: str) -> Found:
    """Check that the nodes can run all workers and the launcher, ever and now."""
    try:
        nodes = [Node(item) for item in find_all(cluster, NODE, None)]
    except Forbidden:  # reported by the rights
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
    """Return the host names of the nodes that can ever run a pod; none without the right to read nodes."""
    try:
        nodes = {node.name: node for node in map(Node, find_all(cluster, NODE, None))}
    except Forbidden:
        return []
    return [nodes[name].labels.get(HOSTNAME, name) for name in rooms(list(nodes.values()), template, {}, {})]


def hostnames(cluster: Cluster) -> dict[str, str]:
    """Return the label kubernetes.io/hostname of each node; nothing without the right to read nodes."""
    with contextlib.suppress(Forbidden):
        nodes = map(Node, find_all(cluster, NODE, None))
        return {node.name: node.labels.get(HOSTNAME, node.name) for node in nodes}
    return {}


def moves(cluster: Cluster, name: str, namespace: str, worker: Object, num_workers: int) -> Diagnostic:
    """Check that the workers of a live job have room if they start anew from this template."""
    try:
        nodes = [Node(item) for item in find_all(cluster, NODE, None)]
        pods = find_all(cluster, POD, None, fields="status.phase!=Succeeded,status.phase!=Failed")
        held = usage((pod for pod in pods if _owner(pod) != f"{namespace}/{name}"), _owner)
    except Forbidden:
        fix = f"ask the cluster's administrator: kubectl get nodes; {num_workers} workers need a place"
        return warning("nodes", "you do not have permission to see whether the other nodes have room", fix)
    ever = rooms(nodes, worker, held.lasting, held.lasting)
    free = sum(rooms(nodes, worker, held.lasting, held.taken).values())
    if sum(ever.values()) < num_workers:
        message = f"the nodes that stay can ever have {sum(ever.values())} workers, {num_workers} are needed"
        return fault("nodes", message, "exclude fewer nodes, or submit the job again with fewer nodes:")
    if free < num_workers:
        message = f"the nodes that stay have room for {free} workers now, {num_workers} are needed"
        return fault("nodes", message, "wait until other jobs end (python generate.py list -A --all-users)")
    return passed("nodes", f"the nodes that stay have room for {free} workers, {num_workers} are needed")


def workers_check(job: Job, nodes: Sequence[Node], worker: Object, held: Usage | None, namespace: str) -> Diagnostic:
    """Check that there is room for all workers."""
    lasting, taken = (held.lasting, held.taken) if held else ({}, {})
    ever, now = rooms(nodes, worker, lasting, lasting), rooms(nodes, worker, lasting, taken)
    resource = job.hardware.resource
    what = f"{job.cards} free cards of {resource}" if resource else f"room for {_asked(worker)}"
    several = any(room > 1 for room in ever.values())
    away = _left_out(nodes, worker["spec"], lasting)
    if not ever:
        reason, fix = _closest(nodes, worker["spec"], lasting, job, "worker", namespace)
        return fault("nodes", f"no node can ever run a worker ({_asked(worker)}): {reason}", fix)
    if sum(ever.values()) < job.nodes:
        places = f"{len(ever)} node{'s' if len(ever) > 1 else ''}"
        places = f"{sum(ever.values())} workers on {places}" if several else places
        message = f"{places} can ever have {what}, {job.nodes} are needed{away}"
        fix = f"set nodes: {sum(ever.values())} or fewer" + (
            ", or wait for those nodes (kubectl get nodes)" if away else ""
        )
        if job.placement == "required":
            message += "; worker.onePerNode is true"
            fix += ", or set worker.onePerNode: false if workers may share a node"
        return fault("nodes", message, fix)
    if held is None:
        message = (
            f"{len(ever)} nodes can have {what}, {job.nodes} needed; you are not allowed to see current usage{away}"
        )
        return passed("nodes", message)
    free = sum(room > 0 for room in now.values())
    message = f"{free} of {len(ever)} nodes have {what} now" + (f", for {sum(now.values())} workers" if several else "")
    message += f", {job.nodes} {'is' if job.nodes == 1 else 'are'} needed"
    if sum(now.values()) >= job.nodes:
        return passed("nodes", message + _sharing(job, free) + away)
    fix = f"wait, set nodes: {sum(now.values())}, or delete jobs" if sum(now.values()) else "wait, or delete jobs"
    fix += " (python generate.py list): workers that fit start and keep their cards while the others wait"
    return warning("nodes", f"{message}; full: {_full(nodes, now, worker['spec'], held)}{away}", fix)


def _sharing(job: Job, free: int) -> str:
    """Return whether workers of the job share a node, where that is not clear from their cards."""
    match job.placement:
        case "required":
            return "; one worker per node"
        case "preferred" if free < job.nodes:
            return "; workers share nodes, which worker.onePerNode: true prevents"
        case "preferred":
            return "; one worker per node where possible"
    return ""


def _asked(template: Object) -> str:
    """Return what a pod requests, in words."""
    cards_first = sorted(needs(template["spec"]).items(), key=lambda item: (item[0] not in CARD_RESOURCES, item[0]))
    parts = [f"{name} {written(name, value)}" for name, value in cards_first if name != "pods"]
    return ", ".join(parts) or "no resources"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _left_out(nodes: Iterable[Node], spec: Mapping[str, Any], lasting: Mapping[str, Any]) -> str:
    """Return the nodes that could run the pod if they were Ready and not cordoned."""
    found, need = [], needs(spec)
    for node in nodes:
        reasons = hindrances(node, spec, lasting.get(node.name, {}), need)
        if reasons and all(reason.kind in ("absent", "cordoned") for reason in reasons):
            found.append(f"{node.name} ({', '.join(reason.what for reason in reasons)})")
    return f"; left out: {_few(found)}" if found else ""


def _full(nodes: Iterable[Node], now: Mapping[str, int], spec: Mapping[str, Any], held: Usage) -> str:
    """Return the nodes without room, and which jobs use it."""
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
    """Return why the best nodes cannot run a pod, and what to change."""
    groups: dict[tuple[Hindrance, ...], list[str]] = defaultdict(list)
    need = needs(spec)
    for node in nodes:
        groups[tuple(hindrances(node, spec, lasting.get(node.name, {}), need))].append(node.name)
    if not groups:
        return "the cluster has no nodes", "ask the cluster's administrator: kubectl get nodes"
    reasons = min(groups, key=lambda group: sum(3 if one.left == "0" else 1 for one in group))
    first = next((one for one in reasons if one.kind not in ("absent", "cordoned")), reasons[0])
    has = "have" if len(groups[reasons]) > 1 else "has"
    words = " and ".join(f"{has} {one.what}" if one.kind == "resource" else one.what for one in reasons)
    return f"{_few(groups[reasons])}: {words}", _fix(first, job, role, namespace, groups[reasons][0])


def _fix(reason: Hindrance, job: Job, role: str, namespace: str, node: str) -> str:
    """What to change so that the reason goes."""
    part = job.launcher if role == "launcher" else job.worker
    own = [f"{key}={value}" for key, value in part.node_selector.items()]
    resources = "launcher.resources:" if role == "launcher" else "resources:"
    match reason.kind:
        case "selector" if reason.subject not in own:
            whose = f"namespace {namespace} or the cluster adds this selector"
            return f"{whose}: ask the cluster's administrator which nodes you can use"
        case "selector":
            return f"correct {role}.nodeSelector: in the values (kubectl get nodes --show-labels)"
        case "affinity":
            return f"correct {role}.affinity: in the values (kubectl get nodes --show-labels)"
        case "taint":
            return f"add {role}.tolerations: for the {reason.what}, if your site allows it"
        case "resource" if reason.subject in CARD_RESOURCES and reason.left == "0":
            return f"set device: to what the nodes have (kubectl describe node {node}); none has {reason.subject}"
        case "resource" if reason.subject in CARD_RESOURCES:
            return f"set cards: {reason.left} or fewer"
        case "resource":
            return f"set {resources} so that {reason.subject} is at most {reason.left}"
    return f"wait for it, or ask the cluster's administrator: kubectl describe node {node}"


def launcher_check(job: Job, nodes: Sequence[Node], pods: Templates, held: Usage | None, namespace: str) -> Diagnostic:
    """Check that there is room for the launcher beside the workers."""
    launcher, worker = pods["Launcher"], pods["Worker"]
    lasting, taken = (held.lasting, held.taken) if held else ({}, {})
    if not rooms(nodes, launcher, lasting, lasting):
        reason, fix = _closest(nodes, launcher["spec"], lasting, job, "launcher", namespace)
        return fault("launcher node", f"no node can ever run the launcher: {reason}", fix)
    ever = beside(nodes, launcher, worker, job.nodes, lasting, lasting)
    asked = _asked(launcher)
    if not ever:
        message = f"no node has room for the launcher ({asked}) beside the workers"
        fix = "set launcher.nodeSelector: to nodes without workers, or reduce launcher.resources:, resources: or nodes:"
        return fault("launcher node", message, fix)
    if held is None:
        return passed("launcher node", f"{len(ever)} nodes can run the launcher ({asked})")
    now = beside(nodes, launcher, worker, job.nodes, lasting, taken)
    if now:
        return passed("launcher node", f"{len(now)} of {len(ever)} nodes have room for the launcher now ({asked})")
    fix = f"wait, or reduce launcher.resources: (kubectl describe node {ever[0]} shows what uses it)"
    message = f"none of {len(ever)} nodes has room for the launcher now ({asked})"
    return warning("launcher node", message, fix)
