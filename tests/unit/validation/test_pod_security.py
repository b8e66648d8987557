# SPDX-License-Identifier: Apache-2.0
"""Pod Security's sentences, as a real API server (1.35) has printed them, and the values keys behind them."""

from __future__ import annotations

from typing import Any

import pytest

from mpikit.devices import version_key
from mpikit.text.nested import dotted
from mpikit.validation.pod_security import LATEST, violations
from tests.conftest import Command
from tests.e2e.strange_pods import LEVELS, PODS, VERSIONS, left_over, recorded, spec_of

C0, C1 = "spec.containers[0].", "spec.containers[1]."
HOOKS = (
    "lifecycle.postStart.httpGet.host",
    "lifecycle.preStop.tcpSocket.host",
    "readinessProbe.httpGet.host",
)

OPEN: dict[str, Any] = {
    "hostIPC": True,
    "volumes": [{"name": "a", "hostPath": {"path": "/a"}}, {"name": "b", "hostPath": {"path": "/b"}}],
    "containers": [
        {"name": "c"},
        {
            "name": "d",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]},
                "runAsNonRoot": True,
            },
        },
    ],
}
SAID = {
    "privileged": set(),
    "baseline": {
        'non-default capabilities (container "d" must not include "IPC_LOCK" in securityContext.capabilities.add)',
        "host namespaces (hostIPC=true)",
        'hostPath volumes (volumes "a", "b")',
    },
    "restricted": {
        "host namespaces (hostIPC=true)",
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; container "d" '
        'must not include "IPC_LOCK" in securityContext.capabilities.add)',
        'restricted volume types (volumes "a", "b" use restricted volume type "hostPath")',
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or containers "c", "d" must set securityContext.seccompProfile.type to "RuntimeDefault" '
        'or "Localhost")',
    },
}


@pytest.mark.parametrize("level", SAID)
def test_a_level_says_what_the_api_server_has_said(level: str) -> None:
    assert {violation.sentence for violation in violations({"spec": OPEN}, level)} == SAID[level]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (None, []),
        ([], []),
        ({"securityContext": {"seLinuxOptions": {"type": []}, "sysctls": [{"name": []}]}}, ["forbidden sysctls"]),
        (
            {"containers": [None, {"securityContext": []}], "volumes": [1]},
            [
                "allowPrivilegeEscalation != false",
                "unrestricted capabilities",
                "seccompProfile",
                "runAsNonRoot != true",
            ],
        ),
    ],
)
def test_a_template_that_is_no_pod_is_judged_as_far_as_it_is_one(spec: object, told: list[str]) -> None:
    """Its types are faults of their own; nothing of it may end in a traceback."""
    assert [found.sentence.partition(" (")[0] for found in violations({"spec": spec}, "restricted")] == told


@pytest.mark.parametrize(
    ("values", "level", "keys"),
    [
        ("default", "baseline", ["hostIPC", "output", "dataset", "pretrained", "output"]),
        ("gaudi2", "baseline", []),
        ("default", "privileged", []),
    ],
)
def test_check_names_the_key_and_the_line_of_the_values(
    generate: Command, values: str, level: str, keys: list[str]
) -> None:
    done = generate("check", "-f", f"values/{values}.yaml", "--pod-security", level)
    told = [line.split(": ") for line in done.stdout.splitlines() if "violates PodSecurity" in line]
    assert [words[1] for words in told] == keys
    assert all(words[0].startswith(("values/default.yaml:", "values/voyager.yaml:")) for words in told)
    assert done.returncode == (2 if keys else 0)


def test_a_pod_spec_of_the_values_is_blamed_by_its_own_key(generate: Command) -> None:
    words = ("--set", 'worker.podSpec={"hostNetwork": true}', "--pod-security", "baseline")
    done = generate("check", "-f", "values/cpu.yaml", *words)
    assert '--set: worker.podSpec.hostNetwork: violates PodSecurity "baseline"' in done.stdout
    assert 'hostPort (container "worker" uses hostPort 2222)' in done.stdout
    assert "runAsUser" not in done.stdout
    assert "sshd would listen on port 22" not in done.stdout


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("version", VERSIONS)
def test_strange_pods_are_told_what_the_api_server_has_said(version: str, level: str) -> None:
    """The server's own words of 1.35, as tests/e2e/test_security_levels.py has recorded them."""
    numbers = LATEST if version == "latest" else version_key(version.removeprefix("v"))
    found = {case: [one.sentence for one in violations({"spec": spec_of(case)}, level, numbers)] for case in PODS}
    said = recorded(level, version)
    assert {case: left_over(said[case], found[case]) for case in PODS} == dict.fromkeys(PODS, "")


CONTEXT = "securityContext."


@pytest.mark.parametrize(
    ("case", "level", "fields"),
    [
        ("host", "baseline", ["spec.hostNetwork", "spec.hostPID"]),
        ("host-paths", "baseline", ["spec.volumes[0].hostPath", "spec.volumes[1].hostPath"]),
        ("more-volumes", "restricted", ["spec.volumes[0].nfs", "spec.volumes[1].nfs", "spec.volumes[2].flexVolume"]),
        ("ports-of-two", "baseline", [C0 + "ports[0].hostPort", C1 + "ports[0].hostPort", C1 + "ports[1].hostPort"]),
        ("hooks", "baseline", [C0 + key for key in HOOKS]),
        ("sysctl", "baseline", ["spec.securityContext.sysctls[0]"]),
        ("selinux", "baseline", ["spec.securityContext.seLinuxOptions", C0 + CONTEXT + "seLinuxOptions"]),
        ("armour", "baseline", [C0 + CONTEXT + "appArmorProfile.type"]),
        ("first-and-second", "baseline", [f"{one}.{CONTEXT}privileged" for one in ("spec.initContainers[0]", C0[:-1])]),
        ("mounts", "restricted", [C0 + CONTEXT + "procMount"]),
        ("rights-of-two", "baseline", [one + CONTEXT + "capabilities.add" for one in (C0, C1)]),
        ("seccomp", "baseline", ["spec.securityContext.seccompProfile.type"]),
    ],
)
def test_a_violation_names_every_field_that_is_to_blame(case: str, level: str, fields: list[str]) -> None:
    found = [[dotted(key) for key in one.fields] for one in violations({"spec": spec_of(case)}, level)]
    assert fields in found


def test_what_a_level_wants_set_is_to_be_set_in_the_pod_or_in_each_container() -> None:
    told = violations({"spec": spec_of("two-bare")}, "restricted")
    found = {one.sentence.split(" ")[0]: [dotted(key) for key in one.fields] for one in told}
    both = [C0 + CONTEXT, C1 + CONTEXT]
    assert found["allowPrivilegeEscalation"] == [f"{one}allowPrivilegeEscalation" for one in both]
    assert found["unrestricted"] == [f"{one}capabilities.drop" for one in both]
    assert found["runAsNonRoot"] == [f"{one}runAsNonRoot" for one in ("spec.securityContext.", *both)]
    assert found["seccompProfile"] == [f"{one}seccompProfile" for one in ("spec.securityContext.", *both)]


def test_a_container_whose_name_is_pod_is_a_container() -> None:
    spec = {"containers": [{"name": "pod", "securityContext": {"privileged": True}}]}
    (found,) = violations({"spec": spec}, "baseline")
    assert found.sentence == 'privileged (container "pod" must not set securityContext.privileged=true)'


@pytest.mark.parametrize(("version", "told"), [((1, 31), 1), ((1, 32), 0)])
def test_what_a_version_allows_is_allowed_in_that_version(version: tuple[int, ...], told: int) -> None:
    spec = {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}
    assert len(violations({"spec": spec}, "baseline", version)) == told
