# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses of requests and limits, of a container and of a pod as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mpikit.diagnostics import Found, fault, warning
from mpikit.text.nested import as_map, at, numbered
from mpikit.text.quoting import shown
from mpikit.text.units import BYTES, quantity, without_unit

_STANDARD = ("cpu", "memory", "ephemeral-storage")  # resources without a domain that a container may ask for
_OF_PODS = ("cpu", "memory")  # that a pod as a whole may ask for, since Kubernetes 1.34
_CLAIM_SOURCES = ("resourceClaimName", "resourceClaimTemplateName")
HUGE = "hugepages-"


def resource_faults(resources: Any, key: str) -> Found:
    """Quantities that cannot be read, requests over limits, cards and huge pages whose request is not their limit."""
    limits, requests = _amounts(at(resources, "limits")), _amounts(at(resources, "requests"))
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            yield from _amount_faults(name, value, at(resources, field, name), f"{key}.{field}.{name}")
    for name, request in requests.items():
        limit = limits.get(name)
        if limit is None and _exact(name) and name not in limits:
            yield fault(f"{key}.requests.{name}", "has no limit, and must have the same one", "give it as a limit")
        elif request is not None and limit is not None and _exact(name) and request != limit:
            shown = f"request {resources['requests'][name]} and limit {resources['limits'][name]}"
            yield fault(f"{key}.requests.{name}", f"{shown} must be equal", "leave the request out")
        elif request is not None and limit is not None and request > limit:
            shown = f"request {resources['requests'][name]} is over its limit {resources['limits'][name]}"
            yield fault(f"{key}.requests.{name}", shown, "lower the request, or raise the limit")
    for name in BYTES:
        yield from _unit_faults(name, {field: at(resources, field, name) for field in ("limits", "requests")}, key)
    names = {*limits, *requests}
    if any(name.startswith(HUGE) for name in names) and not names & {"cpu", "memory"}:
        yield fault(key, "huge pages need cpu or memory beside them", "ask for cpu or memory too")


def _unit_faults(name: str, written: Mapping[str, Any], key: str) -> Found:
    """Report bytes without a unit, once if limit and request are the same."""
    for field, value in written.items():
        if value is not None and (said := without_unit(value)) and (field == "limits" or value != written["limits"]):
            yield warning(f"{key}.{field}.{name}", *said)


def pod_resource_faults(spec: Mapping[str, Any], key: str) -> Found:
    """The same of a pod as a whole, whose containers must fit into it."""
    resources = as_map(spec.get("resources"))
    limits, requests = _amounts(resources.get("limits")), _amounts(resources.get("requests"))
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name in amounts:
            if name not in _OF_PODS and not name.startswith(HUGE):
                fix = f"{', '.join(_OF_PODS)}, or {HUGE}2Mi"
                yield fault(f"{key}.resources.{field}.{name}", "is not a resource of a pod", fix)
    yield from resource_faults(resources, f"{key}.resources")
    own = [as_map(container.get("resources")) for _, container in numbered(spec.get("containers"))]
    most = [_amounts(one.get("limits")) for one in own]
    asked = [most[number] | _amounts(one.get("requests")) for number, one in enumerate(own)]  # the limit by default
    for name, amount in {**limits, **requests}.items():
        total = sum((one.get(name) or Fraction() for one in asked), Fraction())
        largest, limit = max((one.get(name) or Fraction() for one in most), default=Fraction()), limits.get(name)
        if (amount is not None and total > amount) or (limit is not None and largest > limit):
            message = f"the containers ask for more {name} than the pod as a whole"
            yield fault(f"{key}.resources", message, "raise it, or leave it to the containers")


def claim_faults(spec: Mapping[str, Any], key: str) -> Found:
    """Report claims of devices (DRA) without one source, and containers that name a claim that the pod lacks."""
    claims = numbered(spec.get("resourceClaims"))
    for number, claim in claims:
        sources = [name for name in _CLAIM_SOURCES if claim.get(name)]
        if len(sources) != 1:
            message = "has both sources" if sources else "has no source"
            yield fault(f"{key}.resourceClaims[{number}]", message, f"give one of {', '.join(_CLAIM_SOURCES)}")
    known = [str(claim.get("name")) for _, claim in claims]
    for kind in ("initContainers", "containers"):
        for place, container in numbered(spec.get(kind)):
            for number, used in numbered(at(container, "resources", "claims")):
                if used.get("name") not in known:
                    here = f"{key}.{kind}[{place}].resources.claims[{number}].name"
                    fix = f"one of {', '.join(map(repr, known))}" if known else f"add it to {key}.resourceClaims"
                    yield fault(here, f"{shown(str(used.get('name', '')))} is not a claim of the pod", fix)


def _amounts(found: Any) -> dict[str, Fraction | None]:
    """Amounts by resource; None if one cannot be read."""
    return {str(name): _read(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _read(value: Any) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        return quantity(value)
    except ValueError:
        return None


def _exact(name: str) -> bool:
    """Whether the server wants request and limit equal: huge pages and what device plugins offer."""
    return name.startswith(HUGE) or ("/" in name and not name.partition("/")[0].endswith("kubernetes.io"))


def _amount_faults(name: str, amount: Fraction | None, written: Any, key: str) -> Found:
    if "/" not in name and name not in _STANDARD and not name.startswith(HUGE):
        yield fault(key, "is not a resource of a container", f"{', '.join(_STANDARD)}, {HUGE}2Mi, or domain/name")
    if amount is None:
        return  # the schema says so
    if amount < 0:
        yield fault(key, f"{written} is negative", "0 or more")
    if _exact(name) and not name.startswith(HUGE) and amount.denominator != 1:
        yield fault(key, f"{written} must be a whole number", "request whole cards")
    page = _read(name.removeprefix(HUGE)) if name.startswith(HUGE) else None
    if page and amount % page:
        yield fault(key, f"{written} is not a multiple of the page of {name.removeprefix(HUGE)}", "round it")
