# SPDX-License-Identifier: Apache-2.0
"""Check the user's rights on the cluster."""

from __future__ import annotations

from mpikit.diagnostics import Found, fault, passed, warning
from mpikit.errors import ClusterError
from mpikit.kube.api import Kind, create, review
from mpikit.kube.client import Cluster
from mpikit.text.nested import at

SELF = Kind("SelfSubjectReview", "selfsubjectreviews", "/apis/authentication.k8s.io/v1", namespaced=False)


_ALL = ("get", "list", "watch", "create", "patch", "delete")


# (group, resource, subresource): verbs that the kit's commands use, and the ClusterRole that has them.
RIGHTS: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    ("kubeflow.org", "mpijobs", "", _ALL, "kubeflow-mpijobs-edit"),
    ("", "configmaps", "", ("get", "list", "create", "patch", "delete"), "edit"),
    ("", "pods", "", ("get", "list", "watch", "delete"), "edit"),
    ("", "pods", "log", ("get",), "edit"),
    ("batch", "jobs", "", ("get", "list", "delete"), "edit"),
    ("", "events", "", ("list",), "edit"),
)


# What doctor and status can do without: resource, verb, whether in all namespaces, what is lost.
WISHES: tuple[tuple[str, str, bool, str], ...] = (
    ("pods", "create", False, "Pod Security, LimitRanges and webhooks are checked only when the job is submitted"),
    ("resourcequotas", "list", False, "the free part of the quotas cannot be checked"),
    ("nodes", "list", True, "whether a node can run the pods cannot be checked"),
)


def check_rights(cluster: Cluster, namespace: str) -> Found:
    """Report missing rights: a fault for what the commands need, a warning for what only helps."""
    num_asked, missing = 0, []
    for group, resource, part, verbs, role in RIGHTS:
        attributes = {"group": group, "resource": resource, "subresource": part, "namespace": namespace}
        refused = [verb for verb in verbs if not review(cluster, attributes | {"verb": verb})]
        num_asked += len(verbs)
        if refused:
            what = f"{resource}/{part}" if part else f"{resource}.{group}" if group else resource
            missing.append((f"you are not allowed to {', '.join(refused)} {what} in namespace {namespace}", role))
    who = _subject(cluster) if missing else ""
    for message, role in missing:
        name = f"{namespace}-{role}"
        binding = f"kubectl -n {namespace} create rolebinding {name} --clusterrole={role} {who}"
        fix = f"ask the cluster's administrator: {binding}"
        yield fault("rights", message, fix)
    if not missing:
        yield passed("rights", f"you have all {num_asked} rights that the commands need in namespace {namespace}")
    for resource, verb, everywhere, loss in WISHES:
        place = {} if everywhere else {"namespace": namespace}
        if not review(cluster, {"group": "", "resource": resource, "verb": verb, **place}):
            fix = f"ask the cluster's administrator for the right to {verb} {resource}; the job does not need it"
            yield warning("rights", f"you are not allowed to {verb} {resource}: {loss}", fix)


def _subject(cluster: Cluster) -> str:
    """The user as the flag of kubectl create rolebinding; servers before 1.28 do not report it."""
    try:
        answer = create(cluster, SELF, None, {"apiVersion": "authentication.k8s.io/v1", "kind": SELF.name})
    except ClusterError:
        return "--user=YOU"
    name = str(at(answer, "status", "userInfo", "username"))
    prefix = "system:serviceaccount:"
    return f"--serviceaccount={name.removeprefix(prefix)}" if name.startswith(prefix) else f"--user={name}"
