# SPDX-License-Identifier: Apache-2.0
"""`submit` where a real API server refuses the job: a namespace that is being deleted, a policy, a webhook."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from jobs import ROOT, settings
from kube import Kube, Object, Result, wait_for

RULE = {"apiGroups": ["kubeflow.org"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["mpijobs"]}
HERE = "kubernetes.io/metadata.name"


def submit(kube: Kube, namespace: str) -> Result:
    """What `generate.py submit` says."""
    words = ["submit", "-f", "values/cpu.yaml", *settings(user="ada"), "-n", namespace, "--kubeconfig", kube.kubeconfig]
    command = [sys.executable, str(ROOT / "generate.py"), "--no-user-file", *words]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, timeout=120)
    return Result(done.returncode, done.stdout, done.stderr)


def refused(kube: Kube, namespace: str) -> str:
    """The error, when nothing was created."""
    result = submit(kube, namespace)
    assert (result.code, result.out) == (3, ""), result
    assert kube.all(namespace, "mpijobs") == []
    assert "nothing was created" in result.err
    return result.err


def kept_object(namespace: str) -> Object:
    """An object with a finalizer, which keeps its namespace."""
    metadata = {"name": "kept", "namespace": namespace, "finalizers": ["mpikit.test/keep"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def test_a_namespace_that_is_being_deleted(kube: Kube, namespace: str) -> None:
    kube.create(kept_object(namespace))
    kube("delete", "namespace", namespace, "--wait=false")
    try:
        told = refused(kube, namespace)
    finally:
        kube("-n", namespace, "patch", "configmap", "kept", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert f"namespace {namespace} is being deleted, so ConfigMap " in told
    assert f"submit to another namespace (-n), or wait until kubectl get namespace {namespace} finds nothing" in told


def registration(kind: str, name: str, body: Object) -> Object:
    api = "admissionregistration.k8s.io/v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **body}


@pytest.fixture
def policy(kube: Kube, namespace: str) -> Iterator[str]:
    """A policy that allows no MPIJob in the namespace; its name."""
    name = f"few-{namespace}"
    match = {"namespaceSelector": {"matchLabels": {HERE: namespace}}, "resourceRules": [RULE]}
    check = {"expression": "false", "message": "ask the site for nodes first"}
    spec = {"failurePolicy": "Fail", "matchConstraints": match, "validations": [check]}
    bound = {"policyName": name, "validationActions": ["Deny"]}
    kube.create(
        registration("ValidatingAdmissionPolicy", name, {"spec": spec}),
        registration("ValidatingAdmissionPolicyBinding", name, {"spec": bound}),
    )
    yield name
    kube("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def test_a_policy_of_the_cluster(kube: Kube, namespace: str, policy: str) -> None:
    def told() -> str:
        return refused(kube, namespace) if "few-" in probe(kube, namespace) else ""

    said = wait_for("the policy to be in force", told, 30)
    assert "denied request: ask the site for nodes first" in said
    assert f"policy {policy} of the cluster rejects it: change what its message names" in said


def probe(kube: Kube, namespace: str) -> str:
    """What the server says of an MPIJob that would not be stored."""
    metadata = {"name": "probe", "namespace": namespace}
    spec: Object = {"mpiReplicaSpecs": {}}
    job = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": metadata, "spec": spec}
    return kube.run("create", "--dry-run=server", "-f", "-", text=json.dumps(job)).err


@pytest.fixture
def webhook(kube: Kube, namespace: str) -> Iterator[str]:
    """A webhook that no server answers, for MPIJobs of the namespace; its name."""
    name = "gate.mpikit.test"
    hook = {
        "name": name,
        "clientConfig": {"url": "https://127.0.0.1:9/gate"},
        "rules": [RULE],
        "namespaceSelector": {"matchLabels": {HERE: namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 1,
        "admissionReviewVersions": ["v1"],
    }
    kube.create(registration("ValidatingWebhookConfiguration", namespace, {"webhooks": [hook]}))
    yield name
    kube("delete", "validatingwebhookconfiguration", namespace)


def test_a_webhook_that_does_not_answer(kube: Kube, namespace: str, webhook: str) -> None:
    def told() -> str:
        return refused(kube, namespace) if "failed calling webhook" in probe(kube, namespace) else ""

    said = wait_for("the webhook to be called", told, 30)
    assert f"cannot be created: webhook {webhook} of the cluster does not answer (failed to call webhook: " in said
    assert f"try again later; ask the cluster's administrator to repair webhook {webhook}" in said
