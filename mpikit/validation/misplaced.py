# SPDX-License-Identifier: Apache-2.0
"""Fields at a wrong level, and those of older versions of MPIJob: where they belong in v2beta1.

Sources of the older versions: kubeflow/mpi-operator v0.2.3, pkg/apis/kubeflow/v1alpha1 and v1alpha2, and
kubeflow/training-operator v1.7, pkg/apis/kubeflow.org/v1/mpi_types.go.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from mpikit.diagnostics import Diagnostic, Found, fault
from mpikit.text.nested import Key, dotted
from mpikit.validation.mpijob import MPIJOB
from mpikit.validation.schema import places, schema_faults

API_VERSION = "kubeflow.org/v2beta1"
_CARDS = "set the number of cards in the Worker's resources.limits, and slotsPerWorker to the same number"
_MOVED = {
    "mainContainer": "remove it: the first container of a pod is the main one",
    "gpus": _CARDS,
    "gpusPerNode": _CARDS,
    "processingUnits": _CARDS,
    "processingUnitsPerNode": _CARDS,
    "processingResourceType": _CARDS,
    "replicas": "move it to spec.mpiReplicaSpecs.Worker.replicas",
    "template": "move it to spec.mpiReplicaSpecs.Launcher.template and spec.mpiReplicaSpecs.Worker.template",
    "launcherOnMaster": "remove it: set a nodeSelector in the Launcher's template instead",
    "mpiDistribution": "write spec.mpiImplementation: OpenMPI, Intel or MPICH",
}
_SSH = (
    "install sshd and ssh in the image, since v2beta1 starts ranks by ssh, not by kubectl exec; remove paths of "
    "kubexec.sh and kubectl; move the fields reported here"
)
_ALMOST = 0.85  # of a misspelt name at another level


def version_faults_of(job: Mapping[str, Any]) -> Found:
    """Report what an apiVersion other than v2beta1 needs."""
    given = job.get("apiVersion")
    if given == API_VERSION:
        return
    said = f"{given!r} is not served" if given else "is missing"
    older = str(given).startswith("kubeflow.org/v1")
    yield fault("apiVersion", said, f"set {API_VERSION}{f' and {_SSH}' if older else ''}")


def field_faults(job: Mapping[str, Any], version: str) -> Found:
    """What the schema refuses; a field that belongs elsewhere has that place as its fix."""
    for one in schema_faults(job, MPIJOB, version):
        yield _placed(one, version) if one.message == "no such field" else one


def _placed(one: Diagnostic, version: str) -> Diagnostic:
    parent, _, name = one.key.rpartition(".")
    if parent == "spec" and name in _MOVED:
        return replace(one, fix=_MOVED[name])
    if one.fix.startswith("did you mean") and name not in _by_name(version):
        return one
    target = _best(name, parent, version)
    return replace(one, message="belongs at another level", fix=f"move it to {target}") if target else one


@functools.cache
def _by_name(version: str) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for path in places(MPIJOB, version):
        if path[0] != "status" and "managedFields" not in path:
            found.setdefault(str(path[-1]), []).append(path)
    return found


def _best(name: str, parent: str, version: str) -> str:
    """Return the place of a name that is nearest to where it was written; of equal ones, the worker's."""
    known = _by_name(version)
    near = [name] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=_ALMOST)
    here = parent.split(".")
    candidates = [dotted(path) for word in near for path in known[word]]
    return min(candidates, key=lambda path: _distance(path.split("."), here), default="")


def _distance(path: list[str], here: list[str]) -> tuple[int, int, bool]:
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path, here, strict=False)))
    return -shared, len(path), "Worker" not in path
