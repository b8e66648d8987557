# SPDX-License-Identifier: Apache-2.0
"""Which workers may share a node.

Workers that each request all cards of a node cannot share one. Others prefer a node without a worker of the job; with
worker.onePerNode they require it. A topology spread cannot require it: DoNotSchedule with maxSkew 1 allows two workers
on each of two nodes, and any number on a single one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpikit.config.job import REQUIRED, Job
from mpikit.text.nested import as_map

HOSTNAME = "kubernetes.io/hostname"  # the label of a node that no other node has


def worker_spread(job: Job) -> dict[str, Any]:
    """Return the fields of the workers' PodSpec that prefer one worker per node."""
    if job.placement != "preferred":
        return {}
    rule = {"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"}
    return {"topologySpreadConstraints": [{**rule, "labelSelector": _workers_of(job)}]}


def worker_affinity(job: Job) -> Mapping[str, Any]:
    """Return the workers' affinity: the user's, and with `onePerNode` an anti-affinity to each other."""
    own = job.worker.affinity
    if job.placement != "required":
        return own
    anti = as_map(own.get("podAntiAffinity"))
    terms = [*(anti.get(REQUIRED) or ()), {"topologyKey": HOSTNAME, "labelSelector": _workers_of(job)}]
    return {**own, "podAntiAffinity": {**anti, REQUIRED: terms}}


def _workers_of(job: Job) -> dict[str, Any]:
    """Return the label selector of the job's workers, by the labels that the operator gives to its pods."""
    return {"matchLabels": {"training.kubeflow.org/job-name": job.job_name, "training.kubeflow.org/job-role": "worker"}}
