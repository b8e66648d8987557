# SPDX-License-Identifier: Apache-2.0
"""Typed views of MPIJobs and events, with the names of their own fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mpikit.devices import cards_of
from mpikit.text.nested import at

Object = dict[str, Any]

JOB_NAME = "training.kubeflow.org/job-name"  # labels that the operator gives to its pods
JOB_ROLE = "training.kubeflow.org/job-role"
REPLICA_INDEX = "training.kubeflow.org/replica-index"
USER = "mpikit/user"
MANAGED_BY = "app.kubernetes.io/managed-by"
QUEUE = "kueue.x-k8s.io/queue-name"
EXCLUDED, RESUMING = "mpikit/excluded-nodes", "mpikit/resuming"  # annotations of `generate.py repair --exclude`
EXCLUDE_AUTO, EXCLUDE_MAX = "mpikit/exclude-auto", "mpikit/exclude-max"  # of `restarts.exclude`, if it is set
DEFAULT_EXCLUDE_MAX = 1
DEFAULT_BACKOFF_LIMIT = 6  # batch/v1 Job


def time_of(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it, with or without fractions."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of an object's status."""

    true: bool
    reason: str
    message: str
    since: datetime | None


def conditions_of(item: Mapping[str, Any] | None) -> dict[str, Condition]:
    """Conditions by type."""
    found = at(item, "status", "conditions") or ()
    return {
        one["type"]: Condition(
            one.get("status") == "True",
            one.get("reason") or "",
            one.get("message") or "",
            time_of(one.get("lastTransitionTime") or one.get("lastUpdateTime")),
        )
        for one in found
    }


def finalizers_of(item: Mapping[str, Any] | None) -> list[str]:
    """Finalizers that keep a deleted object."""
    return [str(name) for name in at(item, "metadata", "finalizers") or ()]


@dataclass(frozen=True, slots=True)
class MPIJob:
    """The parts of an MPIJob that the kit reads."""

    raw: Object

    @property
    def name(self) -> str:
        """Its name."""
        return str(at(self.raw, "metadata", "name") or "")

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(at(self.raw, "metadata", "namespace") or "")

    @property
    def uid(self) -> str:
        """Distinguishes it from a later one of the same name."""
        return str(at(self.raw, "metadata", "uid") or "")

    @property
    def user(self) -> str:
        """Its user, if the kit made it."""
        return str(at(self.raw, "metadata", "labels", USER) or "")

    @property
    def created(self) -> datetime | None:
        """When the server created it."""
        return time_of(at(self.raw, "metadata", "creationTimestamp"))

    @property
    def deleted(self) -> datetime | None:
        """When its deletion was asked for."""
        return time_of(at(self.raw, "metadata", "deletionTimestamp"))

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return at(self.raw, "metadata", "annotations") or {}

    @property
    def ours(self) -> bool:
        """Whether the kit made it: only then its values, its trainer and the trainer's exit codes are known."""
        return bool(at(self.raw, "metadata", "labels", MANAGED_BY) == "mpikit")

    @property
    def output(self) -> str:
        """Where its results and checkpoints outlive its pods; empty if nowhere, or if that is not known."""
        return self.annotations.get("mpikit/output", "")

    @property
    def num_steps(self) -> int | None:
        """Steps of the whole run, if the kit made it."""
        text = self.annotations.get("mpikit/num-steps", "")
        return int(text) if text.isdigit() else None

    @property
    def workers(self) -> int:
        """Worker pods that it asks for."""
        return int(at(self.raw, "spec", "mpiReplicaSpecs", "Worker", "replicas") or 0)

    @property
    def cards(self) -> int:
        """Cards of all its workers."""
        return self.workers * cards_of(self.template("Worker").get("spec"))

    @property
    def synced(self) -> bool:
        """Whether the operator has ever written its status."""
        return bool(at(self.raw, "status", "conditions"))

    @property
    def conditions(self) -> dict[str, Condition]:
        """Conditions by type: Created, Running, Succeeded, Failed, Suspended."""
        return conditions_of(self.raw)

    @property
    def finished(self) -> datetime | None:
        """When it ended: Succeeded or Failed is True and completionTime is set; an eviction sets Failed alone."""
        ended = any(self.holds(name) for name in ("Succeeded", "Failed"))
        return time_of(at(self.raw, "status", "completionTime")) if ended else None

    @property
    def suspended(self) -> bool:
        """Whether spec asks for no pods."""
        return bool(at(self.raw, "spec", "runPolicy", "suspend"))

    @property
    def managed_by(self) -> str:
        """Another controller than the operator; empty if none is named."""
        named = str(at(self.raw, "spec", "runPolicy", "managedBy") or "")
        return "" if named == "kubeflow.org/mpi-operator" else named

    @property
    def queue(self) -> str:
        """Kueue's queue that admits it; empty if none."""
        return str(at(self.raw, "metadata", "labels", QUEUE) or "")

    @property
    def excluded(self) -> list[str]:
        """Nodes that `generate.py repair` keeps its workers off."""
        return [name for name in self.annotations.get(EXCLUDED, "").split(",") if name]

    @property
    def exclude_auto(self) -> bool:
        """Whether `generate.py repair` excludes the nodes that its launcher names."""
        return self.annotations.get(EXCLUDE_AUTO) == "true"

    @property
    def exclude_max(self) -> int:
        """How many nodes it may exclude."""
        text = self.annotations.get(EXCLUDE_MAX, "")
        return int(text) if text.isdecimal() else DEFAULT_EXCLUDE_MAX

    @property
    def backoff_limit(self) -> int:
        """How many times the launcher may fail before the job does."""
        limit = at(self.raw, "spec", "runPolicy", "backoffLimit")
        return DEFAULT_BACKOFF_LIMIT if limit is None else int(limit)

    def holds(self, name: str) -> bool:
        """Whether a condition is True."""
        condition = self.conditions.get(name)
        return condition is not None and condition.true

    def template(self, role: str) -> Object:
        """The pod template of Launcher or Worker; empty if there is none."""
        return at(self.raw, "spec", "mpiReplicaSpecs", role, "template") or {}


@dataclass(frozen=True, slots=True)
class Event:
    """The parts of an event that the kit reads."""

    raw: Object

    @property
    def about(self) -> str:
        """Name of the object that it is about."""
        return str(at(self.raw, "involvedObject", "name") or "")

    @property
    def kind(self) -> str:
        """Kind of that object."""
        return str(at(self.raw, "involvedObject", "kind") or "")

    @property
    def uid(self) -> str:
        """Uid of that object."""
        return str(at(self.raw, "involvedObject", "uid") or "")

    @property
    def reason(self) -> str:
        """Its short reason."""
        return str(self.raw.get("reason") or "")

    @property
    def message(self) -> str:
        """Its text."""
        return str(self.raw.get("message") or "")

    @property
    def first(self) -> datetime | None:
        """When it came first."""
        return time_of(self.raw.get("firstTimestamp") or self.raw.get("eventTime")) or self.last

    @property
    def last(self) -> datetime | None:
        """When it came last; events of the scheduler have a series and no lastTimestamp."""
        texts = (
            at(self.raw, "series", "lastObservedTime"),
            self.raw.get("lastTimestamp"),
            self.raw.get("eventTime"),
            at(self.raw, "metadata", "creationTimestamp"),
        )
        return next((time_of(text) for text in texts if text), None)
