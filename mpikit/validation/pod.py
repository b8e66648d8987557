# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses of a pod beyond its schema: names, references, duplicates, choices.

Source: kubernetes/pkg/apis/core/validation/validation.go of 1.35; compared with a real server case by case
(tests/cluster/test_agreement.py). What only admission can know (quotas, service accounts) is not looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpikit.diagnostics import Found, fault
from mpikit.text.nested import Object, as_map, at, is_int, numbered, walk
from mpikit.validation.containers import containers_faults
from mpikit.validation.field_checks import (
    ID_MAX,
    LABEL_FIX,
    PROFILES,
    choice_faults,
    context_faults,
    is_address,
    is_label,
    label_value_faults,
    needed_name_faults,
    object_name_faults,
    qualified_faults,
)
from mpikit.validation.resources import claim_faults, pod_resource_faults
from mpikit.validation.volumes import volumes_faults

ANNOTATIONS_MAX = 256 << 10
_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
# Path below a pod's spec: what may stand there.
_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("dnsPolicy",): ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None", ""),
    ("preemptionPolicy",): ("PreemptLowerPriority", "Never"),
    ("os", "name"): ("linux", "windows"),
    ("securityContext", "fsGroupChangePolicy"): ("OnRootMismatch", "Always"),
    ("securityContext", "seccompProfile", "type"): PROFILES,
    ("securityContext", "appArmorProfile", "type"): PROFILES,
}
_SPREAD_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("whenUnsatisfiable",): ("DoNotSchedule", "ScheduleAnyway"),
    ("nodeAffinityPolicy",): ("Honor", "Ignore"),
    ("nodeTaintsPolicy",): ("Honor", "Ignore"),
}


def template_faults(template: Any, key: str, added_volumes: Sequence[str] = ()) -> Found:
    """Every fault of a pod template that is seen from the template alone; `added_volumes` come to it later."""
    yield from metadata_faults(at(template, "metadata"), f"{key}.metadata")
    spec = at(template, "spec")
    if isinstance(spec, dict):
        yield from _spec_faults(spec, f"{key}.spec", added_volumes)


def metadata_faults(metadata: Any, key: str) -> Found:
    """A namespace, labels and annotations that break the server's syntax."""
    namespace = at(metadata, "namespace")
    if isinstance(namespace, str) and namespace and not is_label(namespace):
        yield fault(f"{key}.namespace", f"{namespace!r} is not a valid name of a namespace", LABEL_FIX)
    for name, value in as_map(at(metadata, "labels")).items():
        yield from qualified_faults(str(name), f"{key}.labels.{name}")
        yield from label_value_faults(value, f"{key}.labels.{name}")
    annotations = as_map(at(metadata, "annotations"))
    for name in annotations:
        yield from qualified_faults(str(name).lower(), f"{key}.annotations.{name}")
    if sum(len(str(name).encode()) + len(str(value).encode()) for name, value in annotations.items()) > ANNOTATIONS_MAX:
        yield fault(f"{key}.annotations", "are longer than 256 KiB together", "put less into annotations")


def _spec_faults(spec: Object, key: str, added_volumes: Sequence[str]) -> Found:
    yield from choice_faults(spec, _CHOICES, key)
    for name in ("serviceAccountName", "priorityClassName", "runtimeClassName", "nodeName"):
        yield from object_name_faults(spec.get(name), f"{key}.{name}")
    deadline = spec.get("activeDeadlineSeconds")
    if is_int(deadline) and not 1 <= deadline <= ID_MAX:
        yield fault(f"{key}.activeDeadlineSeconds", f"{deadline} is out of range", "1 or more")
    for number, alias in numbered(spec.get("hostAliases")):
        if not is_address(alias.get("ip") or ""):
            yield fault(
                f"{key}.hostAliases[{number}].ip",
                f"{alias.get('ip') or ''!r} is not a valid IP address",
                "such as 10.0.0.1",
            )
        for place, name in enumerate(alias.get("hostnames") or ()):
            yield from needed_name_faults(name, f"{key}.hostAliases[{number}].hostnames[{place}]")
    for name, value in as_map(spec.get("nodeSelector")).items():
        yield from qualified_faults(str(name), f"{key}.nodeSelector.{name}")
        yield from label_value_faults(value, f"{key}.nodeSelector.{name}")
    for number, toleration in numbered(spec.get("tolerations")):
        yield from _toleration_faults(toleration, f"{key}.tolerations[{number}]")
    yield from _affinity_faults(spec.get("affinity"), f"{key}.affinity")
    yield from _spread_faults(spec.get("topologySpreadConstraints"), f"{key}.topologySpreadConstraints")
    yield from context_faults(spec.get("securityContext"), f"{key}.securityContext")
    yield from pod_resource_faults(spec, key)
    yield from claim_faults(spec, key)
    yield from volumes_faults(spec, key)
    yield from containers_faults(spec, key, added_volumes)


def _toleration_faults(toleration: Object, key: str) -> Found:
    operator, value = toleration.get("operator") or "Equal", toleration.get("value")
    if toleration.get("key"):
        yield from qualified_faults(toleration["key"], f"{key}.key")
    elif operator != "Exists":
        yield fault(f"{key}.operator", "must be Exists where there is no key", "give a key, or operator: Exists")
    if operator not in ("Equal", "Exists"):
        yield fault(f"{key}.operator", f"{operator!r} is not known", "one of Equal, Exists")
    if operator == "Exists" and value:
        yield fault(f"{key}.value", "must be empty with operator Exists", "take it out, or set operator: Equal")
    else:
        yield from label_value_faults(value, f"{key}.value")
    if (toleration.get("effect") or "") not in _EFFECTS:
        yield fault(f"{key}.effect", f"{toleration['effect']!r} is not known", f"one of {', '.join(_EFFECTS[1:])}")
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield fault(f"{key}.effect", "must be NoExecute with tolerationSeconds", "take tolerationSeconds out")


def _affinity_faults(affinity: Any, key: str) -> Found:
    """Rules about nodes and pods: operators with the values that they need, weights, topology keys."""
    for path, part in walk(affinity, key):
        weight = part.get("weight")
        if is_int(weight) and not 1 <= weight <= 100:
            yield fault(f"{path}.weight", f"{weight} is out of range", "1 to 100")
        if "topologyKey" in part and not part["topologyKey"]:
            yield fault(f"{path}.topologyKey", "is empty", "give a node label, such as kubernetes.io/hostname")
        if "nodeSelectorTerms" in part and not part["nodeSelectorTerms"]:
            yield fault(f"{path}.nodeSelectorTerms", "is empty", "give one term")
        if isinstance(part.get("key"), str) and "operator" in part:
            yield from _expression_faults(part, path)
        for name, value in as_map(part.get("matchLabels")).items():
            yield from qualified_faults(str(name), f"{path}.matchLabels.{name}")
            yield from label_value_faults(value, f"{path}.matchLabels.{name}")


def _spread_faults(constraints: Any, key: str) -> Found:
    """Rules that spread pods over nodes: counts, words, and one rule of a kind for each topology."""
    seen: set[tuple[object, object]] = set()
    yield from _affinity_faults(constraints, key)
    for number, rule in numbered(constraints):
        here, action = f"{key}[{number}]", rule.get("whenUnsatisfiable")
        yield from choice_faults(rule, _SPREAD_CHOICES, here)
        for name in ("maxSkew", "minDomains"):
            if is_int(rule.get(name)) and rule[name] < 1:
                yield fault(f"{here}.{name}", f"{rule[name]} is not a positive number", "1 or more")
        if rule.get("minDomains") is not None and action != "DoNotSchedule":
            yield fault(f"{here}.minDomains", "needs whenUnsatisfiable: DoNotSchedule", "remove it")
        if rule.get("topologyKey"):
            yield from qualified_faults(rule["topologyKey"], f"{here}.topologyKey")
        if (rule.get("topologyKey"), action) in seen:
            yield fault(here, f"a second rule for {rule.get('topologyKey')} with {action}", "keep one")
        seen.add((rule.get("topologyKey"), action))


def _expression_faults(rule: Object, key: str) -> Found:
    operator, values = rule["operator"], rule.get("values") or []
    known = ("In", "NotIn", "Exists", "DoesNotExist", *(() if "labelSelector" in key else ("Gt", "Lt")))
    if operator not in known:
        yield fault(f"{key}.operator", f"{operator!r} is not known", f"one of {', '.join(known)}")
    elif operator in ("In", "NotIn") and not values:
        yield fault(f"{key}.values", f"is empty, and {operator} needs one", "give a value")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield fault(f"{key}.values", f"must be empty with {operator}", "remove it")
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield fault(f"{key}.values", f"must be one number with {operator}", "give one")
    yield from qualified_faults(rule["key"], f"{key}.key")
