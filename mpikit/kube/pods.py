# SPDX-License-Identifier: Apache-2.0
"""A typed view of pods, with the names of their own fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from mpikit.devices import cards_of
from mpikit.kube.resources import JOB_NAME, JOB_ROLE, REPLICA_INDEX, Condition, Object, conditions_of, time_of
from mpikit.text.nested import at

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"  # annotation; else the first container, as kubectl has it
OVER = ("Succeeded", "Failed")  # phases of a pod that uses no resources any more


class Waiting(NamedTuple):
    """Why a container does not run; empty strings if none waits."""

    reason: str = ""
    message: str = ""
    image: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """The parts of a pod that the kit reads."""

    raw: Object

    @property
    def name(self) -> str:
        """Its name."""
        return str(at(self.raw, "metadata", "name") or "")

    @property
    def uid(self) -> str:
        """Distinguishes it from a later one of the same name."""
        return str(at(self.raw, "metadata", "uid") or "")

    @property
    def job(self) -> str:
        """The MPIJob that it belongs to."""
        return str(at(self.raw, "metadata", "labels", JOB_NAME) or "")

    @property
    def role(self) -> str:
        """launcher or worker."""
        return str(at(self.raw, "metadata", "labels", JOB_ROLE) or "")

    @property
    def created(self) -> datetime | None:
        """When the server created it."""
        return time_of(at(self.raw, "metadata", "creationTimestamp"))

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed or Unknown."""
        return str(at(self.raw, "status", "phase") or "Pending")

    @property
    def node(self) -> str:
        """The node that it was given; empty if none yet."""
        return str(at(self.raw, "spec", "nodeName") or "")

    @property
    def held_cards(self) -> int:
        """Cards that it uses, and that are not free for others."""
        return cards_of(self.raw.get("spec")) if self.node and self.phase not in OVER else 0

    @property
    def deleted(self) -> datetime | None:
        """When its grace period ends, if its deletion was asked for."""
        return time_of(at(self.raw, "metadata", "deletionTimestamp"))

    @property
    def disruption(self) -> Condition | None:
        """Why Kubernetes ends it (condition DisruptionTarget), such as PreemptionByScheduler."""
        target = conditions_of(self.raw).get("DisruptionTarget")
        return target if target and target.true else None

    @property
    def reason(self) -> str:
        """Reason of the whole pod, such as Evicted or UnexpectedAdmissionError; empty for one that just ended."""
        return str(at(self.raw, "status", "reason") or "")

    @property
    def message(self) -> str:
        """The kubelet's text for `reason`."""
        return str(at(self.raw, "status", "message") or "")

    @property
    def unreachable(self) -> datetime | None:
        """Since when its node has not answered.

        The node controller then sets Ready to False, without a reason and beside containers that are ready
        (MarkPodsNotReady); the kubelet always gives a reason.
        """
        ready = conditions_of(self.raw).get("Ready")
        statuses = at(self.raw, "status", "containerStatuses") or ()
        lost = self.reason == "NodeLost" or (
            ready and not ready.true and not ready.reason and statuses and all(one.get("ready") for one in statuses)
        )
        return (ready.since if ready else self.created) if lost and self.phase not in OVER else None

    @property
    def alive(self) -> bool:
        """Whether its main container runs, as far as its node says, and nothing ends it."""
        state = self.main_status.get("state") or {"running": {}}
        away = self.deleted or self.disruption or self.unreachable
        return self.phase == "Running" and "running" in state and not away

    @property
    def gates(self) -> list[str]:
        """Scheduling gates that keep it from the scheduler."""
        return [str(gate.get("name")) for gate in at(self.raw, "spec", "schedulingGates") or ()]

    @property
    def unschedulable(self) -> Condition | None:
        """The scheduler's words, if it found no node."""
        scheduled = conditions_of(self.raw).get("PodScheduled")
        return scheduled if scheduled and not scheduled.true and scheduled.reason == "Unschedulable" else None

    @property
    def containers(self) -> list[Object]:
        """Statuses of its containers, those that run before the others first."""
        status = self.raw.get("status", {})
        return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]

    @property
    def init_containers(self) -> list[str]:
        """Containers that must end before the main one starts, without native sidecars (restartPolicy Always)."""
        found = at(self.raw, "spec", "initContainers") or ()
        return [str(one.get("name") or "") for one in found if one.get("restartPolicy") != "Always"]

    @property
    def restarts_in_place(self) -> bool:
        """Whether the kubelet starts a container again that has failed."""
        return at(self.raw, "spec", "restartPolicy") in ("Always", "OnFailure") and self.phase not in OVER

    @property
    def main(self) -> str:
        """Name of its main container, which runs the job; others may stand beside it, such as a mesh's proxy."""
        named = at(self.raw, "metadata", "annotations", DEFAULT_CONTAINER)
        names = [str(one.get("name") or "") for one in at(self.raw, "spec", "containers") or ()]
        return str(named) if named in names else names[0] if names else ""

    @property
    def main_status(self) -> Object:
        """Status of its main container; the kubelet sorts them all by name. Empty if there is none yet."""
        found: list[Object] = at(self.raw, "status", "containerStatuses") or []
        own = [one for one in found if one.get("name") == self.main]
        return (own or (found if len(found) == 1 else []) or [{}])[0]

    @property
    def waiting(self) -> Waiting:
        """The first container that does not run for a reason."""
        for container in self.containers:
            reason = str(at(container, "state", "waiting", "reason") or "")
            if reason not in ("", "PodInitializing"):
                message = str(at(container, "state", "waiting", "message") or "")
                return Waiting(reason, message, str(container.get("image") or ""), str(container.get("name") or ""))
        return Waiting()

    @property
    def sidecars(self) -> list[str]:
        """Containers that still run although the main one has ended; the kubelet ends native sidecars itself."""
        if self.exit_code is None or self.phase in OVER:
            return []
        found = at(self.raw, "status", "containerStatuses") or ()
        return [str(one.get("name")) for one in found if at(one, "state", "running") is not None]

    @property
    def started(self) -> bool:
        """Whether its main container runs or has run."""
        state = self.main_status.get("state") or {}
        return bool(state.get("running") or state.get("terminated")) or self.restarts > 0

    @property
    def restarts(self) -> int:
        """Times that its main container was started again."""
        return int(at(self.main_status, "restartCount") or 0)

    @property
    def exit_code(self) -> int | None:
        """Exit code of its main container; None while it runs."""
        code = at(self.main_status, "state", "terminated", "exitCode")
        return None if code is None else int(code)

    @property
    def ended(self) -> datetime | None:
        """When its main container ended."""
        return time_of(at(self.main_status, "state", "terminated", "finishedAt"))

    @property
    def evicted(self) -> str:
        """Why it was evicted; empty if it was not."""
        return (self.message or "evicted") if self.reason == "Evicted" else ""


def ordered(pods: Iterable[Object]) -> tuple[Pod, ...]:
    """Pods: launchers by age, then workers by their number."""

    def place(pod: Pod) -> tuple[bool, int, str, str]:
        index = str(at(pod.raw, "metadata", "labels", REPLICA_INDEX) or pod.name.rpartition("-")[2])
        worker = pod.role == "worker"
        return worker, int(index) if worker and index.isdigit() else 0, str(pod.created), pod.name

    return tuple(sorted((Pod(item) for item in pods), key=place))
