# SPDX-License-Identifier: Apache-2.0
"""Check that the quotas of the namespace leave room for the job.

Source: the quota evaluator of pods (kubernetes/pkg/quota/v1/evaluator/core/pods.go).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mpikit.config.job import Job
from mpikit.devices import CARD_RESOURCES
from mpikit.diagnostics import Diagnostic, Found, fault, passed, warning
from mpikit.errors import Forbidden
from mpikit.kube.api import QUOTA, find_all
from mpikit.kube.client import Cluster
from mpikit.kube.resources import Object
from mpikit.preflight.pod_requests import ONE, Amounts, added, amounts, limits, of_pod, requests, times, written
from mpikit.preflight.scheduling import holds
from mpikit.text.nested import at


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
    for name, value in of_pod(spec, requests).items():
        found[f"requests.{name}"] = value
        if name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-"):
            found[name] = value
    for name, value in of_pod(spec, limits).items():
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
    """Return what a quota has too little of for (spec, count) pods and other objects; None if its scope is unknown."""
    scopes = _scopes(quota)
    answers = [[_in_scope(scope, spec) for scope in scopes] for spec, _ in pods]
    if any(answer is None for row in answers for answer in row):
        return None
    inside = [pod for pod, row in zip(pods, answers, strict=True) if all(row)]
    need = added(*(times(quota_use(spec), count) for spec, count in inside), {} if scopes else others)
    hard, used = amounts(at(quota, "spec", "hard")), amounts(at(quota, "status", "used"))
    return [
        Shortage(name, need[name], limit, used.get(name, Fraction(0)))
        for name, limit in hard.items()
        if need.get(name, Fraction(0)) > max(Fraction(0), limit - used.get(name, Fraction(0)))
    ]


def _scopes(quota: Object) -> list[dict[str, Any]]:
    plain = [{"scopeName": name, "operator": "Exists"} for name in at(quota, "spec", "scopes") or ()]
    return [*plain, *(at(quota, "spec", "scopeSelector", "matchExpressions") or ())]


def _in_scope(scope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool | None:
    """Return whether a quota of this scope counts a pod; None if the scope is unknown."""
    match scope["scopeName"]:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort" | "NotBestEffort" as name:
            return _best_effort(spec) is (name == "BestEffort")
        case "PriorityClass":
            labels = {"class": str(spec["priorityClassName"])} if spec.get("priorityClassName") else {}
            return holds({**scope, "key": "class"}, labels)
    return None


def _best_effort(spec: Mapping[str, Any]) -> bool:
    """Whether a pod names no cpu and no memory at all."""
    every = [spec, *(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return not any(requests(one).get(name) for one in every for name in ("cpu", "memory"))


_EXCEEDED = re.compile(r"exceeded quota: ([^,\s]+), requested: \S+, used: (\S+), limited: (\S+)")


Templates = Mapping[str, Object]
"""Pod templates of Worker and Launcher, as the cluster admits them, where that is known."""


def check_quotas(
    cluster: Cluster, job: Job, manifests: Sequence[Object], namespace: str, pods: Templates, refusals: Iterable[str]
) -> Found:
    """Check that each ResourceQuota has enough for the whole job, ever and now.

    `refusals`: the server's messages on single pods, all that is known of quotas without the right to read them.
    """
    try:
        quotas = list(find_all(cluster, QUOTA, namespace))
    except Forbidden:  # reported by the rights
        quotas = [quota for text in refusals if (quota := named_quota(text))]
    others = job_objects(sum(item["kind"] == "ConfigMap" for item in manifests))
    found = [check for quota in quotas if (check := quota_check(quota, job, namespace, pods, others))]
    names = ", ".join(quota["metadata"]["name"] for quota in quotas)
    enough = (
        f"ResourceQuota {names}: enough for the whole job" if quotas else f"no ResourceQuota in namespace {namespace}"
    )
    yield from found or [passed("quota", enough)]


def named_quota(refusal: str) -> Object | None:
    """Return the quota that a rejection names, as far as the message shows it."""
    found = _EXCEEDED.search(refusal)
    if not found:
        return None
    used, hard = (dict(pair.split("=", 1) for pair in text.split(",")) for text in found.groups()[1:])
    return {"metadata": {"name": found[1]}, "spec": {"hard": hard}, "status": {"used": used}}


def quota_check(
    quota: Object, job: Job, namespace: str, pods: Templates, others: Mapping[str, Fraction]
) -> Diagnostic | None:
    """Report what a quota has too little of; None if it has enough."""
    name = quota["metadata"]["name"]

    def short(num_workers: int) -> list[Shortage] | None:
        return shortages(quota, [(pods["Worker"]["spec"], num_workers), (pods["Launcher"]["spec"], 1)], others)

    found = short(job.nodes)
    if found is None:
        hard = ", ".join(f"{key} {value}" for key, value in (at(quota, "spec", "hard") or {}).items())
        message = f"ResourceQuota {name} has a scope that this check does not know; it allows {hard}"
        return warning(
            "quota", message, f"kubectl -n {namespace} describe resourcequota {name} shows it: compare it with the job"
        )
    if not found:
        return None
    never = [one for one in found if one.forever]
    fitting = bisect_left(
        range(1, job.nodes), True, key=lambda n: any(one.forever or not never for one in short(n) or ())
    )
    less = f"set nodes: {fitting}" if fitting else f"reduce {_keys(never or found)}"
    if never:
        message = f"ResourceQuota {name} never has enough: {'; '.join(_allowed(one) for one in never)}"
        return fault("quota", message, f"{less}, or ask the cluster's administrator for a larger ResourceQuota {name}")
    message = f"ResourceQuota {name} has too little left now: {'; '.join(_left(one) for one in found)}"
    fix = f"wait, {less}, or delete jobs: python generate.py list -n {namespace} shows which use cards of {name}"
    return warning("quota", message, fix)


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
