"""Pod Security: check's list of violations against that of the API server's admission, sentence by sentence."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jobs import ROOT, generate, settings
from kube import Kube, Object
from test_values_files import PLACES

from mpikit.podsecurity import LATEST, Version, violations

LEVELS = ("baseline", "restricted")
SHIPPED = sorted(path.stem for path in (ROOT / "values").glob("*.yaml") if path.stem != "user")
GOOD: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
PROBE = {"tcpSocket": {"port": 22, "host": "10.0.0.1"}}
SYSCTLS = (
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
)
# What the values files do not do: the pod's own fields, then one map for each container.
STRANGE: dict[str, tuple[Object, list[Object]]] = {
    "host": ({"hostNetwork": True, "hostPID": True}, [{}]),
    "volumes": ({"volumes": [{"name": "n", "nfs": {"server": "s", "path": "/"}}, {"name": "e", "emptyDir": {}}]}, [{}]),
    "sysctls": ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, [{}]),
    "safe sysctls": ({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}, [{}]),
    "root": ({"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}, [{"securityContext": {"runAsUser": 0}}]),
    "not root": ({"securityContext": {"runAsNonRoot": True}}, [{}, {"securityContext": {"runAsNonRoot": False}}]),
    "seccomp": ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, [{"securityContext": GOOD}]),
    "seccomp of one": ({}, [{"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, {}]),
    "selinux": (
        {"securityContext": {"seLinuxOptions": {"type": "foo", "user": "u"}}},
        [{"securityContext": {"seLinuxOptions": {"role": "r"}}}],
    ),
    "armour": ({}, [{"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]),
    "privileged": ({}, [{"securityContext": {"privileged": True}}, {}]),
    "mounts": ({"hostUsers": False}, [{"securityContext": {"procMount": "Unmasked"}}]),
    "ports": ({}, [{"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 81}]}]),
    "probes": ({}, [{"livenessProbe": PROBE}, {"readinessProbe": PROBE}]),
    "more rights": ({}, [{"securityContext": {"capabilities": {"add": ["SYS_PTRACE", "CHOWN"]}}}, {}]),
    "a first container": ({"initContainers": [{"name": "i", "image": "x"}]}, [{"securityContext": GOOD}]),
    "nothing": ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, [{"securityContext": GOOD}]),
}


@pytest.fixture(scope="module")
def enforcing(kube: Kube) -> Iterator[dict[str, str]]:
    """A namespace for each level."""
    names = {level: f"test-{uuid.uuid4().hex[:8]}" for level in LEVELS}
    for level, name in names.items():
        labels = {"pod-security.kubernetes.io/enforce": level}
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield names
    kube("delete", "namespace", *names.values(), "--wait=false")


def check_sentences(
    kube: Kube, namespace: str, level: str, template: dict[str, Any], version: Version = LATEST
) -> None:
    """What check lists for a template is what admission says of its pod: nothing less, nothing more."""
    metadata = {"name": "dry-run", "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    answer = kube.run("create", "--dry-run=server", "-f", "-", text=json.dumps(pod))
    found = re.search(r'violates PodSecurity "\w+:[\w.]+": (.*)', answer.err)
    assert found or answer.code == 0, answer.err
    said = found[1] if found else ""
    for violation in violations(template, level, version):
        assert violation.sentence in said
        said = said.replace(violation.sentence, "", 1)
    assert not said.strip(", "), said


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("values", SHIPPED)
def test_the_violations_of_a_values_file_are_those_of_admission(
    kube: Kube, enforcing: dict[str, str], values: str, level: str
) -> None:
    """Judged by the API server's dry run of both pods in a namespace that enforces the level."""
    own = PLACES if values in ("demo", "fashion-mnist") else {"user": "ada"}  # the others have their places
    manifest = generate("-f", f"values/{values}.yaml", *settings(serviceAccountName="null", nodes=2, **own))
    (job,) = [one for one in yaml.safe_load_all(manifest) if one["kind"] == "MPIJob"]
    for replica in job["spec"]["mpiReplicaSpecs"].values():
        check_sentences(kube, enforcing[level], level, replica["template"])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", STRANGE)
def test_the_violations_of_a_strange_pod_are_those_of_admission(
    kube: Kube, enforcing: dict[str, str], case: str, level: str
) -> None:
    """Judged by the API server's dry run."""
    fields, containers = STRANGE[case]
    own = [{"name": f"c{number}", "image": "x"} | more for number, more in enumerate(containers)]
    check_sentences(kube, enforcing[level], level, {"spec": fields | {"containers": own}})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("version", [(1, 26), (1, 30), (1, 33), (1, 34)])
def test_an_older_version_of_the_standard_is_known(kube: Kube, version: Version, level: str) -> None:
    """Judged by the API server's dry run in a namespace that enforces this version of the level."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    prefix = "pod-security.kubernetes.io/enforce"
    labels = {prefix: level, f"{prefix}-version": f"v{'.'.join(map(str, version))}"}
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    containers: list[Object] = [{"name": "c", "image": "x", "livenessProbe": PROBE}]
    security = {
        "sysctls": [{"name": name, "value": "1"} for name in SYSCTLS],
        "seLinuxOptions": {"type": "container_engine_t"},
        "runAsUser": 0,
    }
    for users in (True, False):
        fields = {"hostUsers": users, "securityContext": security, "containers": containers}
        check_sentences(kube, name, level, {"spec": fields}, version)
        containers[0]["securityContext"] = {"procMount": "Unmasked"}  # taken with users of its own only
    kube("delete", "namespace", name, "--wait=false")
