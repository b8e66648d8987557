# SPDX-License-Identifier: Apache-2.0
"""The releases of the MPI Operator with MPIJob v2beta1, and what an older one does not know.

Sources: types.go, validation.go, go.mod and deploy/v2beta1/mpi-operator.yaml of each release. 0.8.1 was prepared, but
published as 0.8.2 only (RELEASE.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpikit.devices import version_key
from mpikit.diagnostics import Found, fault
from mpikit.errors import one_fault
from mpikit.text.nested import at
from mpikit.validation.schema import reference, schema_faults

# Kubernetes whose pod templates the CRD has: it drops newer fields without a word. That of 0.3 keeps every field.
RELEASES: dict[str, str] = {
    "0.3.0": "",
    "0.4.0": "1.25",
    "0.5.0": "1.29",
    "0.6.0": "1.31",
    "0.7.0": "1.34",
    "0.8.0": "1.35",
    "0.8.2": "1.35",
}
FIRST, NEWEST = next(iter(RELEASES)), next(reversed(RELEASES))
# Fields that came later, the newest first.
SINCE: dict[str, str] = {
    "spec.runPolicy.managedBy": "0.6",
    "spec.launcherCreationPolicy": "0.5",
    "spec.runLauncherAsWorker": "0.5",
    "spec.runPolicy.suspend": "0.4",
    "spec.runPolicy.schedulingPolicy": "0.4",
}
# Values of older fields that came later, and what to write instead.
VALUES_SINCE: dict[tuple[str, object], tuple[str, str]] = {
    ("spec.mpiImplementation", "MPICH"): ("0.5", "OpenMPI or Intel"),
    ("spec.slotsPerWorker", 0): ("0.4", "1 or more"),
}
_OR_NEWER = "or ask for a newer operator"
_UNKNOWN_FIELD = "no such field"  # of schema_faults


def release_named(text: str) -> str:
    """Return the release that `text` means: 0.6 and v0.6.0 are 0.6.0. Raises ValuesError with the nearest one."""
    wanted = text.removeprefix("v")
    found = [one for one in RELEASES if one == wanted or one.rpartition(".")[0] == wanted]
    if found:
        return found[-1]
    message = f"{text!r} is not a release of the MPI Operator with MPIJob v2beta1"
    raise one_fault("--operator-version", message, f"--operator-version {nearest(text)} (known: {', '.join(RELEASES)})")


def nearest(text: str) -> str:
    """Return the release whose number is nearest to the one in a text, the newest if there is none."""
    number = re.search(r"\d{1,6}([.,]\d{1,6})*", text)
    if not number:
        return NEWEST
    wanted = _rank(number[0].replace(",", "."))
    return min(reversed(RELEASES), key=lambda one: abs(_rank(one) - wanted))


def _rank(version: str) -> int:
    major, minor, patch = (*(min(part, 99) for part in version_key(version)), 0, 0, 0)[:3]
    return major * 10_000 + minor * 100 + patch


def version_faults(job: Mapping[str, Any], operator: str, kubernetes: str) -> Found:
    """Yield fields and values that this release of the operator does not know, of those that `kubernetes` knows."""
    release = release_named(operator)
    for key, since in SINCE.items():
        if at(job, *key.split(".")) is not None and version_key(release) < version_key(since):
            yield fault(key, f"needs MPI Operator {since}, not {operator}", f"remove it, {_OR_NEWER}")
    for (key, value), (since, instead) in VALUES_SINCE.items():
        if at(job, *key.split(".")) == value and version_key(release) < version_key(since):
            yield fault(key, f"{value} needs MPI Operator {since}, not {operator}", f"write {instead}, {_OR_NEWER}")
    for role in ("Launcher", "Worker"):
        template = at(job, "spec", "mpiReplicaSpecs", role, "template")
        yield from _dropped_fields(template, ("spec", "mpiReplicaSpecs", role, "template"), release, kubernetes)


def _dropped_fields(template: Any, key: tuple[str, ...], release: str, kubernetes: str) -> Found:
    """Yield the fields of a pod template that the CRD of a release drops."""
    known_to = RELEASES[release]
    if not known_to or version_key(known_to) >= version_key(kubernetes):
        return
    unknown = set(_unknown_fields(template, key, kubernetes))
    for field in _unknown_fields(template, key, known_to):
        if field not in unknown:
            later = (one for one, version in RELEASES.items() if version_key(one) > version_key(release) and version)
            since = next((one for one in later if field not in _unknown_fields(template, key, RELEASES[one])), "")
            message = f"the CRD of MPI Operator {release} drops this field"
            yield fault(field, message, f"remove it, or ask for MPI Operator {since or f'newer than {NEWEST}'}")


def _unknown_fields(template: Any, key: tuple[str, ...], kubernetes: str) -> list[str]:
    found = schema_faults(template, reference("PodTemplateSpec"), kubernetes, key)
    return [one.key for one in found if one.message == _UNKNOWN_FIELD]
