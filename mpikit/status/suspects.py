# SPDX-License-Identifier: Apache-2.0
"""Nodes that the launcher names because the job fails there again and again: lines of vit.supervise.nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mpikit.kube.api import POD
from mpikit.kube.client import Call, Cluster
from mpikit.kube.pods import Pod
from mpikit.kube.resources import MPIJob

MOST_LINES, MOST_BYTES = 20_000, 1 << 22
_NAMED = re.compile(r"run_vit\.sh: node ([a-z0-9][a-z0-9.-]{0,252}) (.+): python generate\.py repair ")


def suspects_of(lines: Iterable[str], job: MPIJob) -> dict[str, str]:
    """Return the last reason of each node that these lines name and that is not excluded yet."""
    found = {}
    for line in lines:
        if (named := _NAMED.match(line)) and named[1] not in job.excluded:
            found[named[1]] = named[2]
    return found


def read_suspects(cluster: Cluster, job: MPIJob, launcher: str) -> dict[str, str]:
    """Return the same from the launcher's pod, more of whose lines are read than for `status`."""
    query = {"tailLines": str(MOST_LINES), "limitBytes": str(MOST_BYTES)}
    answer = cluster.request(Call("GET", POD.path(job.namespace, launcher, "log"), query, accept="*/*"))
    return suspects_of(answer.data.decode(errors="replace").splitlines(), job)


def repair_command(job: MPIJob, nodes: Iterable[str]) -> str:
    """Return the command that moves the workers to other nodes."""
    return " ".join(["python generate.py repair", job.name, f"-n {job.namespace}", *(f"--exclude {n}" for n in nodes)])


def with_suspects(
    job: MPIJob, lines: Iterable[str], workers: Iterable[Pod], message: str, advice: str
) -> tuple[str, str]:
    """Return message and advice with the named nodes that workers run on, and what to do about them."""
    places = {pod.node for pod in workers}
    used = {name: why for name, why in suspects_of(lines, job).items() if name in places}
    if not used:
        return message, advice
    named = "; ".join(f"node {name} {why}" for name, why in used.items())
    return f"{message.removesuffix('.')}; {named}", repair_command(job, used)
