# SPDX-License-Identifier: Apache-2.0
"""Check the rights of the MPI Operator's own service account.

Source: mpi-operator v0.8.2, mpi_job_controller.go: on a resume it clears startTime in the status of the launcher's Job,
and deploy/v2beta1/mpi-operator.yaml does not grant it jobs/status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mpikit.devices import version_key
from mpikit.diagnostics import Found, warning
from mpikit.errors import ClusterError
from mpikit.kube.answers import Object
from mpikit.kube.api import JOB, Kind, create, find, find_all
from mpikit.kube.client import Cluster
from mpikit.text.nested import at

FIRST_RELEASE = "0.8.2"  # the first that updates jobs/status
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
CLUSTER_ROLE = Kind("ClusterRole", "clusterroles", _RBAC, namespaced=False)
CLUSTER_ROLE_BINDING = Kind("ClusterRoleBinding", "clusterrolebindings", _RBAC, namespaced=False)
ACCESS_REVIEW = Kind("SubjectAccessReview", "subjectaccessreviews", "/apis/authorization.k8s.io/v1", namespaced=False)
_NAME = "mpi-operator-jobs-status"  # of the ClusterRole and its binding that the fix creates
_EVERYBODY = "system:authenticated"


def check_operator_rights(cluster: Cluster, deployments: Sequence[Object], release: str) -> Found:
    """Warn if the operator cannot resume jobs; silent if the user is not allowed to see its rights."""
    if release and version_key(release) < version_key(FIRST_RELEASE):
        return
    namespace, name = account_of(deployments)
    if may_update_status(cluster, namespace, name) is not False:
        return
    message = (
        "the MPI Operator is not allowed to update jobs/status: a suspended MPIJob gets no launcher when it resumes"
    )
    role = f"kubectl create clusterrole {_NAME} --verb=get,update,patch --resource=jobs.batch/status"
    account = f"--serviceaccount={namespace}:{name}"
    binding = f"kubectl create clusterrolebinding {_NAME} --clusterrole={_NAME} {account}"
    yield warning("operator", message, f"ask the cluster's administrator: {role} && {binding}")


def account_of(deployments: Sequence[Object]) -> tuple[str, str]:
    """Return namespace and name of the operator's service account; those of its manifest if nothing is visible."""
    if not deployments:
        return "mpi-operator", "mpi-operator"
    spec = at(deployments[0], "spec", "template", "spec")
    namespace = str(at(deployments[0], "metadata", "namespace") or "mpi-operator")
    return namespace, str(at(spec, "serviceAccountName") or "default")


def may_update_status(cluster: Cluster, namespace: str, name: str) -> bool | None:
    """Return whether a service account may update jobs/status everywhere; None if that cannot be seen."""
    for asked in (_reviewed, _granted):
        try:
            return asked(cluster, namespace, name)
        except ClusterError:  # most users may do neither; what is wrong with the server is reported elsewhere
            continue
    return None


def _groups(namespace: str) -> tuple[str, ...]:
    return "system:serviceaccounts", f"system:serviceaccounts:{namespace}", _EVERYBODY


def _reviewed(cluster: Cluster, namespace: str, name: str) -> bool:
    """Ask the server."""
    attributes = {"group": JOB.group, "resource": JOB.plural, "subresource": "status", "verb": "update"}
    user = f"system:serviceaccount:{namespace}:{name}"
    spec = {"user": user, "groups": list(_groups(namespace)), "resourceAttributes": attributes}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": ACCESS_REVIEW.name, "spec": spec}
    return at(create(cluster, ACCESS_REVIEW, None, body), "status", "allowed") is True


def _granted(cluster: Cluster, namespace: str, name: str) -> bool:
    """Read the ClusterRoles that are bound to the account."""
    bindings = find_all(cluster, CLUSTER_ROLE_BINDING, None)
    roles = {str(at(one, "roleRef", "name")) for one in bindings if _is_for(one, namespace, name)}
    return any(permits(find(cluster, CLUSTER_ROLE, None, role) or {}) for role in sorted(roles))


def _is_for(binding: Mapping[str, Any], namespace: str, name: str) -> bool:
    subjects: Iterator[tuple[Any, Any, Any]] = (
        (one.get("kind"), one.get("namespace"), one.get("name")) for one in binding.get("subjects") or ()
    )
    user = f"system:serviceaccount:{namespace}:{name}"
    return any(
        (kind, space, own) == ("ServiceAccount", namespace, name)
        or (kind == "User" and own == user)
        or (kind == "Group" and own in _groups(namespace))
        for kind, space, own in subjects
    )


def permits(role: Mapping[str, Any]) -> bool:
    """Return whether a ClusterRole has a rule for update of jobs/status."""

    def has(rule: Mapping[str, Any], key: str, *words: str) -> bool:
        return not {"*", *words}.isdisjoint(rule.get(key) or ())

    return any(
        has(rule, "apiGroups", JOB.group)
        and has(rule, "resources", f"{JOB.plural}/status", "*/status")
        and has(rule, "verbs", "update")
        and not rule.get("resourceNames")
        for rule in role.get("rules") or ()
    )
