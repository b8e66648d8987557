# SPDX-License-Identifier: Apache-2.0
"""`doctor` names what keeps a worker off the nodes, and the key of the values that changes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mpikit.config.job import REQUIRED, Job
from mpikit.preflight.nodes import workers_check
from mpikit.preflight.scheduling import HOSTNAME, usage
from tests.unit.preflight.test_scheduling import CARD, node, template

TAINT = {"key": "site", "value": "ml", "effect": "NoSchedule"}
WANTS_LABEL = {"nodeSelector": {"site": "ml"}}
OTHER_CARD: dict[str, Any] = {"nvidia.com/gpu": "1"}
CASES: dict[str, tuple[Any, Any, str, str]] = {
    "cards": (node(), template(cards="16"), f"n0: has 8 of {CARD}", "set cards: 8 or fewer"),
    "other cards": (
        node(),
        template(**OTHER_CARD),
        "n0: has 0 of nvidia.com/gpu",
        "set device: to what the nodes have (kubectl describe node n0); none has nvidia.com/gpu",
    ),
    "memory": (
        node(),
        template(memory="1Ti"),
        "n0: has 515Gi of memory",
        "set resources: so that memory is at most 515Gi",
    ),
    "a taint": (
        node(taints=[TAINT]),
        template(),
        "n0: taint site=ml:NoSchedule",
        "add worker.tolerations: for the taint site=ml:NoSchedule, if your site allows it",
    ),
    "the job's own selector": (
        node(),
        template(spec=WANTS_LABEL),
        "n0: no label site=ml",
        "correct worker.nodeSelector: in the values (kubectl get nodes --show-labels)",
    ),
    "another's selector": (
        node(),
        template(spec={"nodeSelector": {"a": "b"}}),
        "n0: no label a=b",
        "namespace n or the cluster adds this selector: ask the cluster's administrator which nodes you can use",
    ),
    "a lost node": (
        node(ready="False"),
        template(),
        "n0: not Ready",
        "wait for it, or ask the cluster's administrator: kubectl describe node n0",
    ),
}


ANTI = {"podAntiAffinity": {REQUIRED: [{"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"a": "b"}}}]}}
ALONE = template({"a": "b"}, {"affinity": ANTI}, cpu="1")


@pytest.mark.parametrize(
    ("settings", "worker", "num_nodes", "severity", "said"),
    [
        (("cards=4",), template(cpu="1"), 2, "ok", "2 are needed; one worker per node where possible"),
        (("cards=4",), template(cpu="1"), 1, "ok", "; workers share nodes, which worker.onePerNode: true prevents"),
        (("cards=4", "worker.onePerNode=true"), ALONE, 2, "ok", "2 are needed; one worker per node"),
        (("cards=4", "worker.onePerNode=true"), ALONE, 1, "fault", "2 are needed; worker.onePerNode is true"),
        (("cards=8",), template(cards="8"), 2, "ok", "2 are needed"),
    ],
)
def test_whether_workers_share_a_node_is_told(
    make_job: Callable[..., Job], settings: tuple[str, ...], worker: Any, num_nodes: int, severity: str, said: str
) -> None:
    nodes = [node(f"n{number}") for number in range(num_nodes)]
    found = workers_check(make_job("nodes=2", *settings), nodes, worker, usage([], str), "n")
    assert (found.severity, found.message[-len(said) :]) == (severity, said)
    assert ("worker.onePerNode: false" in found.fix) is (severity == "fault")


@pytest.mark.parametrize("name", CASES)
def test_the_reason_and_what_to_change_are_named(make_job: Callable[..., Job], name: str) -> None:
    one, worker, reason, fix = CASES[name]
    job = make_job('worker.nodeSelector={"site": "ml"}')
    found = workers_check(job, [one], worker, None, "n")
    assert found.message.endswith(f"): {reason}")
    assert found.fix == fix
