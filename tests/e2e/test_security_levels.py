# SPDX-License-Identifier: Apache-2.0
"""Pod Security: check's list of violations against that of the API server's admission, sentence by sentence."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator

import pytest
import yaml
from jobs import ROOT, generate, settings
from kube import Kube, Object
from strange_pods import LEVELS, PODS, VERSIONS, left_over, record, recorded, spec_of
from test_values_files import PLACES

from mpikit.devices import version_key
from mpikit.validation.pod_security import LATEST, violations

SHIPPED = sorted(path.stem for path in (ROOT / "values").glob("*.yaml") if path.stem != "user")


@pytest.fixture(scope="module")
def enforcing(kube: Kube) -> Iterator[dict[str, str]]:
    """A namespace for each level."""
    names = {level: f"test-{uuid.uuid4().hex[:8]}" for level in LEVELS}
    for level, name in names.items():
        labels = {"pod-security.kubernetes.io/enforce": level}
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield names
    kube("delete", "namespace", *names.values(), "--wait=false")


def admission(kube: Kube, namespace: str, pods: dict[str, Object]) -> dict[str, str]:
    """What admission says of each pod, by its name; empty if nothing."""
    items = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        for name, spec in pods.items()
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    answer = kube.run("create", "--dry-run=server", "-f", "-", text=text)
    said = dict(re.findall(r'pods "([\w-]+)" is forbidden: violates PodSecurity "\w+:[\w.]+": (.*)', answer.err))
    taken = set(re.findall(r"pod/([\w-]+) created", answer.out))
    assert said.keys() | taken == pods.keys(), answer.err
    return {name: said.get(name, "") for name in pods}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("values", SHIPPED)
def test_the_violations_of_a_values_file_are_those_of_admission(
    kube: Kube, enforcing: dict[str, str], values: str, level: str
) -> None:
    """Judged by the API server's dry run of both pods in a namespace that enforces the level."""
    own = PLACES if values in ("demo", "fashion-mnist") else {"user": "ada"}  # the others have their places
    manifest = generate("-f", f"values/{values}.yaml", *settings(serviceAccountName="null", nodes=2, **own))
    (job,) = [one for one in yaml.safe_load_all(manifest) if one["kind"] == "MPIJob"]
    templates = {role.lower(): replica["template"] for role, replica in job["spec"]["mpiReplicaSpecs"].items()}
    pods = {role: template["spec"] for role, template in templates.items()}
    for role, said in admission(kube, enforcing[level], pods).items():
        assert left_over(said, [one.sentence for one in violations(templates[role], level)]) == ""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_violations_of_strange_pods_are_those_of_admission_in_each_version(
    kube: Kube, version: str, level: str
) -> None:
    """Judged by the API server's dry run in a namespace that enforces this version of the level."""
    name, prefix = f"test-{uuid.uuid4().hex[:8]}", "pod-security.kubernetes.io/enforce"
    labels = {prefix: level, f"{prefix}-version": version}
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    said = admission(kube, name, {case: spec_of(case) for case in PODS})
    kube("delete", "namespace", name, "--wait=false")
    if os.environ.get("PODSECURITY_RECORD"):
        record(level, version, said)
    numbers = LATEST if version == "latest" else version_key(version.removeprefix("v"))
    found = {case: [one.sentence for one in violations({"spec": spec_of(case)}, level, numbers)] for case in PODS}
    assert {case: left_over(said[case], found[case]) for case in PODS} == dict.fromkeys(PODS, "")
    assert said == recorded(level, version)
