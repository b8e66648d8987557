# SPDX-License-Identifier: Apache-2.0
"""Find the pods, Jobs and ConfigMaps of an MPIJob by ownerReferences, never by a label alone.

Other operators (PyTorchJob, TFJob) give their pods the same label `training.kubeflow.org/job-name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mpikit.text.nested import at

Object = Mapping[str, Any]
MPIJOB_GROUP = "kubeflow.org/"
JOB_GROUP = "batch/"


def launcher_job_name(name: str) -> str:
    """Return the name of the batch Job in which the operator runs the launcher of an MPIJob."""
    return f"{name}-launcher"


def owned_by_mpijob(item: Object, name: str, uid: str = "") -> bool:
    """Return whether an MPIJob of this name (and `uid`, if given) owns an object."""
    return _owned(item, "MPIJob", MPIJOB_GROUP, name, uid)


def owned_by_launcher(item: Object, name: str, uid: str = "") -> bool:
    """Return whether the launcher's Job of an MPIJob of this name (and `uid`, if given) owns a pod."""
    return _owned(item, "Job", JOB_GROUP, launcher_job_name(name), uid)


def belongs(item: Object, name: str) -> bool:
    """Return whether a pod or Job belongs to an MPIJob of this name, also to an earlier one."""
    return owned_by_mpijob(item, name) or owned_by_launcher(item, name)


def mounted_config_maps(job: Object) -> set[str]:
    """Return the names of the ConfigMaps that the pods of an MPIJob mount or take variables from."""
    found: set[str] = set()
    for replica in (at(job, "spec", "mpiReplicaSpecs") or {}).values():
        _collect(at(replica, "template", "spec"), found)
    return found


def _collect(part: Any, found: set[str]) -> None:
    if isinstance(part, Mapping):
        for key, inner in part.items():
            if key in ("configMap", "configMapRef", "configMapKeyRef") and isinstance(inner, Mapping):
                found.add(str(inner.get("name")))
            _collect(inner, found)
    elif isinstance(part, (list, tuple)):
        for inner in part:
            _collect(inner, found)


def _owned(item: Object, kind: str, group: str, name: str, uid: str) -> bool:
    return any(
        one.get("kind") == kind
        and str(one.get("apiVersion") or "").startswith(group)
        and one.get("name") == name
        and (not uid or one.get("uid") == uid)
        for one in _references(item)
    )


def _references(item: Object) -> Iterable[Object]:
    found = at(item, "metadata", "ownerReferences")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
