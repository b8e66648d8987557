"""Pod Security's sentences, as a real API server (1.35) has printed them, and the values keys behind them."""

from __future__ import annotations

from typing import Any

import pytest

from mpikit.podsecurity import violations
from tests.conftest import Command

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
    "spec",
    [
        None,
        [],
        {"securityContext": {"seLinuxOptions": {"type": []}, "sysctls": [{"name": []}]}},
        {"containers": [None, {"securityContext": []}], "volumes": [1]},
    ],
)
def test_a_template_that_is_no_pod_ends_in_no_traceback(spec: object) -> None:
    violations({"spec": spec}, "restricted")


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
    assert all(words[0].startswith("values/default.yaml:") for words in told)
    assert done.returncode == (2 if keys else 0)


def test_a_pod_spec_of_the_values_is_blamed_by_its_own_key(generate: Command) -> None:
    words = ("--set", 'worker.podSpec={"hostNetwork": true}', "--pod-security", "baseline")
    done = generate("check", "-f", "values/cpu.yaml", *words)
    assert '--set: worker.podSpec.hostNetwork: violates PodSecurity "baseline"' in done.stdout
