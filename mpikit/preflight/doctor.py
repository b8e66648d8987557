# SPDX-License-Identifier: Apache-2.0
"""Check before submission that a job can run: one line for each check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpikit.config.job import Job
from mpikit.diagnostics import Diagnostic, Found
from mpikit.errors import ClusterError, Unreachable
from mpikit.kube.answers import Object
from mpikit.kube.client import Call, Cluster
from mpikit.preflight.admission import Trial, check_accounts, check_manifests, check_namespace, check_pods
from mpikit.preflight.check import unseen
from mpikit.preflight.injection import check_sidecars
from mpikit.preflight.nodes import check_nodes
from mpikit.preflight.operator import check_crd, check_in_place, check_operator, check_server
from mpikit.preflight.quota import check_quotas
from mpikit.preflight.rbac import check_rights
from mpikit.preflight.references import check_references, template_of
from mpikit.preflight.storage_probe import check_paths
from mpikit.validation.mpijob import ROLES


def examine(cluster: Cluster, job: Job, manifests: Sequence[Object], namespace: str, *, probe: bool = False) -> Found:
    """Check all that can be checked before submission; yield each result at once, in a fixed order.

    Nothing on the cluster is changed, except that `probe` starts a small pod and deletes it. Raises Unreachable if
    no API server answers. What the user is not allowed to read becomes a warning.
    """
    server = list(check_server(cluster))
    yield from server
    if any(check.severity == "fault" for check in server):
        return
    yield from _guarded(cluster, "operator", check_operator(cluster, namespace))
    crd = list(_guarded(cluster, "crd", check_crd(cluster, manifests)))
    yield from crd
    yield from _guarded(cluster, "restarts", check_in_place(cluster, job))
    yield from _guarded(cluster, "rights", check_rights(cluster, namespace))
    space = list(_guarded(cluster, "namespace", check_namespace(cluster, namespace)))
    yield from space
    trial = Trial({role: template_of(manifests, role) for role in ROLES})
    if not any(check.severity == "fault" for check in space):
        unfit = any(check.severity == "fault" for check in crd)
        tried = [item for item in manifests if not (unfit and item["kind"] == "MPIJob")]
        yield from _guarded(cluster, "service account", check_accounts(cluster, trial, namespace, job))
        yield from _guarded(cluster, "manifest", check_manifests(cluster, job, tried, namespace))
        yield from _guarded(cluster, "pods", check_pods(cluster, job, trial, namespace))
        quotas = check_quotas(cluster, job, manifests, namespace, trial.templates, trial.exceeded)
        yield from _guarded(cluster, "quota", quotas)
        written = {role: template_of(manifests, role) for role in ROLES}
        yield from _guarded(cluster, "sidecars", check_sidecars(cluster, written, trial.templates, namespace))
    yield from _guarded(cluster, "nodes", check_nodes(cluster, job, trial.templates, namespace))
    if any(check.severity == "fault" for check in space):
        return
    yield from _guarded(cluster, "references", check_references(cluster, job, manifests, namespace))
    yield from check_paths(cluster, job, trial.templates["Worker"], namespace, probe=probe, allowed=trial.allowed)


def _guarded(cluster: Cluster, name: str, checks: Iterable[Diagnostic]) -> Found:
    """Yield the checks, and a warning for those that the cluster rejects. Raises Unreachable if it is gone."""
    try:
        yield from checks
    except Unreachable as error:
        cluster.json(Call("GET", "/version", patient=False))
        yield unseen(name, error)
    except ClusterError as error:
        yield unseen(name, error)
