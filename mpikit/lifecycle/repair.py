# SPDX-License-Identifier: Apache-2.0
"""Delete worker pods that have ended, so that the MPI Operator creates them anew.

The operator creates a worker only if no pod of its name exists: it never replaces one that has failed, was evicted or
has ended (MPI Operator 0.8.2, mpi_job_controller.go). The launcher of a job with `restarts` waits for the new pod and
continues.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpikit.errors import JobError, ValuesError, one_fault
from mpikit.kube.api import MPIJOB, POD, delete, find
from mpikit.kube.client import Cluster
from mpikit.kube.ownership import owned_by_mpijob
from mpikit.kube.pods import OVER, Pod, ordered
from mpikit.kube.resources import USER, MPIJob
from mpikit.status.snapshot import no_job, pods_of
from mpikit.text.nested import at


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done, and what a person has to decide."""

    deleted: tuple[str, ...]
    """Names of the ended worker pods that were deleted."""
    advice: tuple[str, ...]
    """One line for each worker pod that needs somebody else."""


def repair_job(cluster: Cluster, namespace: str, name: str, user: str | None) -> Repair:
    """Delete the ended worker pods of a running job; see live_job."""
    job = live_job(cluster, namespace, name, user)
    pods = ordered(item for item in pods_of(cluster, namespace, name) if owned_by_mpijob(item, name, job.uid))
    workers = [pod for pod in pods if pod.role == "worker"]
    gone = delete_ended(cluster, namespace, workers)
    return Repair(tuple(gone), tuple(_stuck(pod, namespace) for pod in workers if _ends(pod)))


def delete_ended(cluster: Cluster, namespace: str, workers: Iterable[Pod]) -> list[str]:
    """Delete the workers that have ended; return their names."""
    ended = [pod for pod in workers if pod.phase in OVER and not _ends(pod)]
    return [pod.name for pod in ended if delete(cluster, POD, namespace, pod.name, pod.uid)]


def live_job(cluster: Cluster, namespace: str, name: str, user: str | None) -> MPIJob:
    """Return a job that has not ended. `user`: reject another user's job; None: do not ask.

    Raises NotFound without such a job, JobError if it has ended, ValuesError for another user's.
    """
    found = find(cluster, MPIJOB, namespace, name)
    if found is None:
        raise no_job(name, namespace)
    job = MPIJob(found)
    owner = str(at(found, "metadata", "labels", USER) or "")
    if user is not None and owner and owner != user:
        raise _not_yours(name, owner)
    if job.finished:
        fix = f"python generate.py delete {name} -n {namespace}, and submit it again"
        raise JobError(f"MPIJob {name} has ended, so no worker of it is created anymore", fix)
    return job


def _ends(pod: Pod) -> bool:
    return bool(at(pod.raw, "metadata", "deletionTimestamp"))


def _stuck(pod: Pod, namespace: str) -> str:
    where = f" on node {pod.node}" if pod.node else ""
    line = f"kubectl -n {namespace} delete pod {pod.name} --force --grace-period=0"
    return f"Pod {pod.name} is being deleted{where}; if that node is lost for good: {line}"


def _not_yours(name: str, owner: str) -> ValuesError:
    fix = f"--set user={owner} if that is you, or --force to repair it anyway"
    return one_fault("", f"MPIJob {name} belongs to {owner}", fix, "NAME")
