# SPDX-License-Identifier: Apache-2.0
"""Explain why a server rejected a pod or a job: one row for each of its messages.

Sources: mpi-operator v0.8.2 (events ValidationError and MPIJobFailed), the admission plugins of kube-apiserver, the
Job controller (FailedCreate). The messages were seen on a real cluster; the tests produce each of them again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rejection explained: the verdict on the job, a short reason, and what to change."""

    verdict: str
    reason: str
    advice: str

    @property
    def retried(self) -> bool:
        """Whether the MPI Operator, or the launcher's Job, tries again and succeeds once the cause is gone."""
        return self.reason not in ("ValidationError", "InvalidPod", "NameTaken", "NamespaceTerminating")


# pattern, verdict, reason, advice; {names} are the pattern's groups and {namespace}. The first match counts.
_ROWS: tuple[tuple[str, str, str, str], ...] = (
    (
        r"error looking up service account [^/\s]+/(?P<name>[^:\s]+)",
        "Rejected",
        "ServiceAccountNotFound",
        "create ServiceAccount {name} (kubectl -n {namespace} create serviceaccount {name}), or set serviceAccountName: "
        "to an existing one (kubectl -n {namespace} get serviceaccounts)",
    ),
    (
        r"exceeded quota: (?P<quota>[^,\s]+), requested: (?P<requested>[^\s]+), used: (?P<used>[^\s]+), "
        r"limited: (?P<limited>[^\s]+)",
        "Pending",
        "QuotaExceeded",
        "ResourceQuota {quota} allows {limited} and {used} is in use: delete what you no longer need (python generate.py "
        "list shows which jobs use cards), set fewer nodes: or cards:, or ask for a larger quota",
    ),
    (
        r"failed quota: (?P<quota>[^:\s]+): must specify (?P<what>.+)",
        "Rejected",
        "QuotaNeedsRequests",
        "ResourceQuota {quota} requires each container to set {what}: set resources: and launcher.resources:",
    ),
    (
        r'violates PodSecurity "(?P<level>\w+):[^"]*": (?P<what>.+)',
        "Rejected",
        "PodSecurityViolated",
        "Namespace {namespace} enforces Pod Security {level}: set hostIPC: false and claims ({{pvc: NAME}}) instead of host "
        "paths, or use a namespace that allows them (label pod-security.kubernetes.io/enforce)",
    ),
    (
        r"no PriorityClass with name (?P<name>\S+) was found",
        "Rejected",
        "PriorityClassNotFound",
        "PriorityClass {name} does not exist: set priorityClassName: to one that kubectl get priorityclasses lists",
    ),
    (
        r'admission webhook "(?P<name>[^"]+)" denied the request',
        "Rejected",
        "WebhookDenied",
        "webhook {name} of the cluster rejects it: change what its message names, or ask the cluster's administrator",
    ),
    (
        r"ValidatingAdmissionPolicy '(?P<name>[^']+)' with binding '[^']+' denied request",
        "Rejected",
        "PolicyDenied",
        "policy {name} of the cluster rejects it: change what its message names, or ask the cluster's administrator "
        "(kubectl get validatingadmissionpolicy {name} -o yaml)",
    ),
    (
        r'failed calling webhook "(?P<name>[^"]+)"',
        "Pending",
        "WebhookFailed",
        "try again later; ask the cluster's administrator to repair webhook {name} (kubectl get "
        "mutatingwebhookconfigurations,validatingwebhookconfigurations)",
    ),
    (
        r"because it is being terminated",
        "Rejected",
        "NamespaceTerminating",
        "submit to another namespace (-n), or wait until kubectl get namespace {namespace} "
        "finds nothing and create it again",
    ),
    (
        r"(?:maximum|minimum) \S+ usage per (?:Container|Pod) is",
        "Rejected",
        "LimitRangeExceeded",
        "a LimitRange in namespace {namespace} limits each pod: set resources: within it (kubectl -n {namespace} describe limitranges)",
    ),
    (
        r"Found validation errors: (?P<what>.+)",
        "Rejected",
        "ValidationError",
        "the MPI Operator rejects MPIJob {job} and will not try again: correct the fields it names (python generate.py check --manifest "
        "FILE finds them), delete the job and submit it again",
    ),
    (
        r'(?P<kind>\S+) "(?P<name>[^"]+)" is invalid: (?P<what>.+)',
        "Rejected",
        "InvalidPod",
        "the pod template of MPIJob {job} is not valid: correct the fields named for {name}, delete the job and submit it again",
    ),
    (
        r"already exists and is not (?:managed|controlled)|is not controlled by us",
        "Rejected",
        "NameTaken",
        "another object in namespace {namespace} has a name that MPIJob {job} needs: delete it, or submit with --set name=NAME",
    ),
    (
        r"forbidden: (?P<what>.+)",
        "Rejected",
        "Forbidden",
        "the cluster does not allow pods of MPIJob {job} in namespace {namespace}: show this message to the cluster's administrator",
    ),
)


_BY_WEBHOOK = re.compile(r'admission webhook "[^"]+" denied the request|failed calling webhook "')


def by_webhook(message: str) -> bool:
    """Return whether a webhook stopped a request: nothing was changed, whatever the status of the answer is."""
    return bool(_BY_WEBHOOK.search(message))


def sentence(kind: str, name: str, namespace: str, refusal: Refusal, message: str) -> str:
    """Return one sentence about an object that the server does not create."""
    cause = re.search(r'failed calling webhook "([^"]+)": (.*)', message, re.DOTALL)
    if refusal.reason == "NamespaceTerminating":
        return f"namespace {namespace} is being deleted, so {kind} {name} cannot be created in it"
    if refusal.reason == "WebhookFailed" and cause:
        return (
            f"{kind} {name} cannot be created: webhook {cause[1]} of the cluster does not answer ({cause[2].strip()})"
        )
    return f"{kind} {name} is rejected: {message}"


def understand(message: str, namespace: str, job: str) -> Refusal:
    """Explain a server's message; one that matches no row gets a general explanation."""
    for pattern, verdict, reason, advice in _ROWS:
        found = re.search(pattern, message)
        if found:
            words = {name: text or "" for name, text in found.groupdict().items()}
            return Refusal(verdict, reason, advice.format(**words, namespace=namespace, job=job))
    advice = f"kubectl -n {namespace} describe mpijob {job} shows all events"
    return Refusal("Rejected", "Refused", advice)
