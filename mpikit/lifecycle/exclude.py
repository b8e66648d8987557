# SPDX-License-Identifier: Apache-2.0
"""Keep the workers of a live job off nodes: suspend it, change the workers' node affinity, resume it.

The MPI Operator copies the worker template into pods only when it creates them, and creates all of them anew after a
suspension (0.8.2, mpi_job_controller.go). Suspending ends the pods with SIGTERM, so the ranks save. One patch suspends
the job and changes the template: an interruption never leaves a suspended job with the old nodes, and the same command
finishes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mpikit.errors import JobError, Timeout
from mpikit.kube.affinity import with_hosts
from mpikit.kube.answers import Object
from mpikit.kube.api import MPIJOB, merge_patch
from mpikit.kube.client import Cluster
from mpikit.kube.ownership import owned_by_mpijob
from mpikit.kube.pods import OVER, ordered
from mpikit.kube.resources import EXCLUDED, JOB_NAME, JOB_ROLE, RESUMING, MPIJob
from mpikit.lifecycle.repair import delete_ended
from mpikit.status.snapshot import pods_of
from mpikit.text.nested import as_map, at

POD_SECONDS = 2.0  # between two looks at pods that end


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A job, and the nodes that its workers are kept off."""

    job: MPIJob
    nodes: tuple[str, ...]
    """Names of all nodes, those of earlier exclusions too."""
    added: tuple[str, ...]
    affinity: Object
    """The workers' affinity without these nodes."""

    @property
    def template(self) -> Object:
        """The worker template as it will be, with the labels that the operator gives to its pods."""
        found = self.job.template("Worker")
        labels = {**as_map(at(found, "metadata", "labels")), JOB_NAME: self.job.name, JOB_ROLE: "worker"}
        return {"metadata": {"labels": labels}, "spec": {**as_map(found.get("spec")), "affinity": self.affinity}}

    @property
    def resumes(self) -> bool:
        """Whether the job runs afterwards: it did before, or an earlier call was interrupted."""
        return not self.job.suspended or RESUMING in self.job.annotations

    @property
    def steps(self) -> list[str]:
        """What will be done, a line for each step."""
        first = [f"will suspend MPIJob {self.job.name}: all ranks save and end"] if not self.job.suspended else []
        last = ["will resume it once its pods have ended: it continues from that checkpoint"] if self.resumes else []
        return [*first, f"will keep its workers off {', '.join(self.nodes)}", *last]

    @property
    def done(self) -> bool:
        """Whether an earlier call has done all of it."""
        return not self.added and not (self.job.suspended and self.resumes)


def exclusion_of(job: MPIJob, nodes: Sequence[str], hostnames: Mapping[str, str]) -> Exclusion:
    """Return the exclusion of these nodes. `hostnames`: the label kubernetes.io/hostname of each node that is known.

    Raises JobError for more nodes than the job may exclude, and for a job whose suspension belongs to Kueue.
    """
    if job.queue:
        fix = "python generate.py delete, then submit again with worker.affinity in the values"
        raise JobError(f"Kueue suspends and resumes MPIJob {job.name}, so its nodes cannot be changed", fix)
    added = tuple(sorted(set(nodes) - set(job.excluded)))
    every = tuple(sorted({*nodes, *job.excluded}))
    if len(every) > job.exclude_max:
        fix = f"name fewer nodes, or submit the job again with restarts.exclude.max: {len(every)}"
        what = f"MPIJob {job.name} may exclude {job.exclude_max} nodes (restarts.exclude.max)"
        raise JobError(f"{what}, and {', '.join(every)} are {len(every)}", fix)
    own = as_map(at(job.template("Worker"), "spec", "affinity"))
    return Exclusion(job, every, added, with_hosts(own, "NotIn", [hostnames.get(name, name) for name in every]))


def exclude(cluster: Cluster, plan: Exclusion, seconds: float, tell: Callable[[str], object]) -> None:
    """Carry it out. Raises Timeout if the pods do not end in time; the same command then goes on."""
    job = plan.job
    deadline = cluster.until = min(cluster.until, cluster.clock() + seconds)
    marks: dict[str, str | None] = {EXCLUDED: ",".join(plan.nodes)}
    marks |= {RESUMING: "true"} if plan.resumes else {}
    metadata = {"annotations": marks, "uid": job.uid}  # of this job, not of a later one of its name
    replicas = {"Worker": {"template": {"spec": {"affinity": plan.affinity}}}}
    spec = {"runPolicy": {"suspend": True}, "mpiReplicaSpecs": replicas}
    _change(cluster, job, {"metadata": metadata, "spec": spec})
    if not plan.resumes:
        tell(f"MPIJob {job.name} was suspended before, and stays so")
        return
    tell(f"MPIJob {job.name} is suspended; its ranks save and end")
    _await_end(cluster, job, deadline)
    resumed = {"metadata": {"annotations": {RESUMING: None}}, "spec": {"runPolicy": {"suspend": False}}}
    _change(cluster, job, resumed)
    tell(f"MPIJob {job.name} is resumed, without {', '.join(plan.nodes)}")


def _change(cluster: Cluster, job: MPIJob, patch: Object) -> None:
    merge_patch(cluster, MPIJOB, job.namespace, job.name, patch, dry_run=False)


def _await_end(cluster: Cluster, job: MPIJob, deadline: float) -> None:
    """Wait until no pod of the job runs: two launchers must not use one folder."""
    while names := _left(cluster, job):
        if cluster.clock() + POD_SECONDS > deadline:
            what = f"Pod {', '.join(names)} of MPIJob {job.name} is still being ended, and the job is suspended"
            fix = "run the same command again: it resumes the job once they have ended"
            raise Timeout(what, f"{fix}; kubectl -n {job.namespace} delete pod {names[0]} --force if its node is lost")
        cluster.sleep(POD_SECONDS)


def _left(cluster: Cluster, job: MPIJob) -> list[str]:
    """Return the pods that still run; delete workers that had ended, which the operator keeps."""
    pods = ordered(pods_of(cluster, job.namespace, job.name))
    workers = [pod for pod in pods if pod.role == "worker" and owned_by_mpijob(pod.raw, job.name, job.uid)]
    delete_ended(cluster, job.namespace, workers)
    launchers = [pod for pod in pods if pod.role == "launcher" and pod.phase not in OVER]
    return [pod.name for pod in (*workers, *launchers)]
