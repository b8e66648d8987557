# SPDX-License-Identifier: Apache-2.0
"""The required node affinity of a pod: which nodes it may go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpikit.kube.answers import Object
from mpikit.text.nested import as_map, at

HOSTNAME = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def with_hosts(affinity: Mapping[str, Any], operator: str, hostnames: Sequence[str]) -> Object:
    """Return an affinity that also keeps pods on (In) or off (NotIn) the nodes with these host names.

    Terms are alternatives, so each gets the rule. A term without a rule matches no node, and stays as it is.
    """
    node = as_map(affinity.get("nodeAffinity"))
    terms = at(node, REQUIRED, "nodeSelectorTerms")
    changed = [_with_rule(term, operator, hostnames) if _matches_some(term) else term for term in terms or ()]
    changed = changed or [_with_rule({}, operator, hostnames)]
    return {**affinity, "nodeAffinity": {**node, REQUIRED: {"nodeSelectorTerms": changed}}}


def _matches_some(term: Mapping[str, Any]) -> bool:
    return bool(term.get("matchExpressions") or term.get("matchFields"))


def _with_rule(term: Mapping[str, Any], operator: str, hostnames: Sequence[str]) -> Object:
    """Rules of a term hold together, so one more NotIn joins the term's own."""
    rules = [dict(rule) for rule in term.get("matchExpressions") or ()]
    for rule in rules:
        if operator == "NotIn" and (rule["key"], rule["operator"]) == (HOSTNAME, operator):
            rule["values"] = sorted({*rule["values"], *hostnames})
            return {**term, "matchExpressions": rules}
    rule = {"key": HOSTNAME, "operator": operator, "values": sorted(set(hostnames))}
    return {**term, "matchExpressions": [*rules, rule]}
