# SPDX-License-Identifier: Apache-2.0
"""Add up what a job's pods request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mpikit.text.units import quantity

Amounts = Mapping[str, Fraction]


_BINARY = ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki")


_BYTES = ("memory", "storage", "hugepages-")


ONE = Fraction(1)


def written(resource: str, value: Fraction) -> str:
    """Format an amount: 409Gi of memory, 1.5 of cpu, 8 cards."""
    if any(word in resource for word in _BYTES) and value >= 1024:
        unit = next(name for name in _BINARY if value >= quantity(f"1{name}"))
        return f"{float(value / quantity(f'1{unit}')):.4g}{unit}"
    return str(int(value)) if value.denominator == 1 else f"{float(value):.4g}"


def amounts(found: Mapping[str, object] | None) -> dict[str, Fraction]:
    return {name: quantity(value) for name, value in (found or {}).items()}


def added(*parts: Amounts) -> dict[str, Fraction]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum((part.get(name, Fraction(0)) for part in parts), Fraction(0)) for name in names}


def _largest(*parts: Amounts) -> dict[str, Fraction]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: max(part.get(name, Fraction(0)) for part in parts) for name in names}


def times(part: Amounts, count: int) -> dict[str, Fraction]:
    return {name: value * count for name, value in part.items()}


def requests(container: Mapping[str, Any]) -> dict[str, Fraction]:
    """Return the requests of a container; a limit without a request is a request."""
    resources = container.get("resources") or {}
    return amounts(resources.get("limits")) | amounts(resources.get("requests"))


def limits(container: Mapping[str, Any]) -> dict[str, Fraction]:
    return amounts((container.get("resources") or {}).get("limits"))


def of_pod(spec: Mapping[str, Any], of: Callable[[Mapping[str, Any]], dict[str, Fraction]]) -> dict[str, Fraction]:
    """Sum all containers, or take the largest init container; amounts of the pod itself override both."""
    lasting: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers") or ():
        moment = added(lasting, of(container))
        peak = _largest(peak, moment)
        if container.get("restartPolicy") == "Always":  # a sidecar: it stays
            lasting = moment
    together = added(lasting, *(of(container) for container in spec.get("containers") or ()))
    return added(_largest(together, peak) | of(spec), amounts(spec.get("overhead")))


def needs(spec: Mapping[str, Any]) -> dict[str, Fraction]:
    """Return what the scheduler reserves on a node for a pod of this spec."""
    return {name: value for name, value in of_pod(spec, requests).items() if value} | {"pods": ONE}
