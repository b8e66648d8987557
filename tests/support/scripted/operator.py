# SPDX-License-Identifier: Apache-2.0
"""A tiny MPI Operator with a kubelet: jobs go Created, Running, then to the end that their seed decides."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.support.scripted.store import NOW, Object, Store

NAME, ROLE = "training.kubeflow.org/job-name", "training.kubeflow.org/job-role"


def pod(namespace: str, job: str, role: str, name: str, uid: str, owner: str = "") -> Object:
    """A pod of a job, which runs; `owner` is the uid of the MPIJob, or of the launcher's Job."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "creationTimestamp": NOW,
            "labels": {NAME: job, ROLE: role},
            "ownerReferences": [owner_of(job, role, owner)],
        },
        "spec": {"nodeName": "node-0", "containers": [{"name": role, "image": "i"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": role, "restartCount": 0, "state": {"running": {"startedAt": NOW}}}],
        },
    }


def owner_of(job: str, role: str, uid: str = "") -> Object:
    """The reference that the operator, or the Job controller for a launcher, gives to a pod."""
    if role == "launcher":
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": f"{job}-launcher",
            "uid": uid or f"{job}-launcher-uid",
        }
    else:
        owner = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "name": job, "uid": uid}
    return {**owner, "controller": True, "blockOwnerDeletion": True}


def ended(item: Object, code: int, phase: str | None = None, restarts: int = 0) -> Object:
    """A pod whose container has ended."""
    item["status"]["phase"] = phase or ("Failed" if code else "Succeeded")
    terminated = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": NOW}
    status = item["status"]["containerStatuses"][0]
    status |= {"state": {"terminated": terminated}, "restartCount": restarts}
    return item


def condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": NOW}


def with_status(job: Object, phase: str) -> Object:
    """A job with the conditions that the operator writes for a phase."""
    name, space = job["metadata"]["name"], job["metadata"]["namespace"]
    running = "False" if phase in ("Succeeded", "Failed") else "True"
    conditions = [condition("Created", "True", "MPIJobCreated", f"MPIJob {space}/{name} is created.")]
    if phase != "Created":
        conditions.append(condition("Running", running, "MPIJobRunning", f"MPIJob {space}/{name} is running."))
    status: Object = {"startTime": NOW}
    if phase == "Succeeded":
        conditions.append(condition("Succeeded", "True", "MPIJobSucceeded", f"MPIJob {space}/{name} is done."))
        status["completionTime"] = NOW
    if phase == "Failed":
        told = "Job has reached the specified backoff limit: "
        conditions.append(condition("Failed", "True", "BackoffLimitExceeded/", told))
        status["completionTime"] = NOW
    return {**job, "status": {**status, "conditions": conditions}}


@dataclass
class Operator:
    """Moves every job on by moments: a request to the server is one, so is a watch in which nothing happens."""

    store: Store
    seed: object
    orphans: bool = False
    """Pods of a deleted job stay, as after the loss of the garbage collector."""
    due: list[tuple[int, str, str, str]] = field(default_factory=list)
    """(moment, namespace, job or pod, uid) with what is to happen in `what`."""
    what: dict[tuple[int, str, str, str], str] = field(default_factory=dict)
    moment: int = 0
    made: dict[str, list[str]] = field(default_factory=dict)
    """Uids of the MPIJobs that were made, by name."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """The true end of each uid."""
    deleted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store.on_change = self.heard

    def heard(self, what: str, item: Object) -> None:
        """Plan what is to happen to a job that was made or deleted."""
        if item["kind"] != "MPIJob":
            return
        name, space, uid = (item["metadata"][key] for key in ("name", "namespace", "uid"))
        if what == "ADDED":
            chance = random.Random(f"{self.seed}/job/{len(self.verdicts)}")
            self.made.setdefault(name, []).append(uid)
            self.verdicts[uid] = chance.choice(("Succeeded", "Succeeded", "Failed"))
            moment = self.moment
            for phase in ("Created", "Running", self.verdicts[uid]):
                moment += chance.randint(1, 9)
                self.plan(moment, space, name, uid, phase)
        if what == "DELETED":
            self.deleted.add(uid)
            if not self.orphans:
                self.plan(self.moment + 3, space, name, uid, "collect")

    def plan(self, moment: int, space: str, name: str, uid: str, what: str) -> None:
        self.due.append((moment, space, name, uid))
        self.what[moment, space, name, uid] = what

    def tick(self) -> None:
        """One moment passes."""
        with self.store.lock:
            self.moment += 1
            now = sorted(one for one in self.due if one[0] <= self.moment)
            self.due = [one for one in self.due if one not in now]
            for one in now:
                self.happen(self.what[one], *one[1:])

    def happen(self, what: str, space: str, name: str, uid: str) -> None:
        store, pods = self.store, (f"{name}-launcher-x", f"{name}-worker-0")
        if what == "collect":
            for each in pods:
                found = store.objects.get(("pods", space, each))
                if found and found["metadata"]["uid"].startswith(uid):
                    store.put("DELETED", "pods", found)
            return
        job = store.objects.get(("mpijobs", space, name))
        if job is None or job["metadata"]["uid"] != uid:
            return
        if what == "Running":
            for each, role in zip(pods, ("launcher", "worker"), strict=True):
                owner = uid if role == "worker" else f"{uid}-job"
                store.put("ADDED", "pods", pod(space, name, role, each, f"{uid}-{role}", owner))
        if what in ("Succeeded", "Failed"):
            for each in pods:
                code = 1 if what == "Failed" and "launcher" in each else 0
                store.put("MODIFIED", "pods", ended(store.objects["pods", space, each], code))
        store.put("MODIFIED", "mpijobs", with_status(job, what))

    def phase(self, name: str) -> str:
        """What is true of the job of this name now: its end, unfinished, or absent."""
        with self.store.lock:
            jobs = [item for item in self.store.of("mpijobs") if item["metadata"]["name"] == name]
        if not jobs:
            return "absent"
        return self.verdicts[jobs[0]["metadata"]["uid"]] if "completionTime" in jobs[0].get("status", {}) else "open"
