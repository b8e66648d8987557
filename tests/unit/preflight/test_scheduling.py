# SPDX-License-Identifier: Apache-2.0
"""What a job needs and what nodes and quotas have for it, against numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpikit.devices import cards_of
from mpikit.preflight.pod_requests import needs, written
from mpikit.preflight.quota import job_objects, quota_use, shortages
from mpikit.preflight.scheduling import Node, beside, hindrances, rooms, usage
from mpikit.text.units import quantity

CARD = "habana.ai/gaudi"
Object = dict[str, Any]


def node(name: str = "n0", labels: dict[str, str] | None = None, ready: str = "True", **spec: object) -> Node:
    """A Gaudi node of Voyager: 8 cards, 96 threads, 515 GiB."""
    amounts = {"cpu": "96", "memory": "515Gi", "pods": "110", CARD: "8"}
    status = {"allocatable": amounts, "conditions": [{"type": "Ready", "status": ready}]}
    return Node({"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": status})


def template(labels: dict[str, str] | None = None, spec: Object | None = None, **limits: str) -> Object:
    """A pod template of one container; CARD is written as cards."""
    amounts = {CARD if name == "cards" else name: value for name, value in limits.items()}
    return {
        "metadata": {"labels": labels or {}},
        "spec": {"containers": [{"resources": {"limits": amounts}}], **(spec or {})},
    }


def pod(on: str, phase: str = "Running", owner: str = "Job", **limits: str) -> Object:
    """A pod on a node."""
    metadata = {"name": "p", "namespace": "ben", "ownerReferences": [{"kind": owner}]}
    return {
        "metadata": metadata,
        "spec": {**template(**limits)["spec"], "nodeName": on},
        "status": {"phase": phase},
    }


def kinds(one: Node, spec: Object) -> list[str]:
    return [found.kind for found in hindrances(one, spec, {})]


WORKER = template(cards="8", cpu="95", memory="409Gi")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("95", 95),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("250u", Fraction(1, 4000)),
        ("1n", Fraction(1, 10**9)),
        ("4Gi", 4294967296),
        ("95000Mi", 95000 * 2**20),
        ("1k", 1000),
        ("1E", 10**18),
        ("1E3", 1000),
        ("1e-3", Fraction(1, 1000)),
        ("-2Ki", -2048),
        ("+1", 1),
        ("7Ei", 7 * 2**60),
    ],
)
def test_a_quantity_is_read_exactly(text: str, value: object) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "4GiB", "1K", "one", "1e", "1e3Ki", "--1"])
def test_what_kubernetes_does_not_take_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        quantity(text)


@given(st.integers(0, 10**12), st.sampled_from(["m", "", "k", "M", "Ki", "Mi", "Gi", "Ti"]))
def test_a_thousand_times_a_quantity_is_the_quantity_of_a_thousand_times_the_number(number: int, suffix: str) -> None:
    assert 1000 * quantity(f"{number}{suffix}") == quantity(f"{1000 * number}{suffix}")


@pytest.mark.parametrize(
    ("resource", "text", "shown"),
    [("memory", "409Gi", "409Gi"), ("memory", "24684084Ki", "23.54Gi"), ("cpu", "1500m", "1.5"), (CARD, "8", "8")],
)
def test_an_amount_is_written_as_people_read_it(resource: str, text: str, shown: str) -> None:
    assert written(resource, quantity(text)) == shown


def test_a_pod_needs_its_requests_and_one_place() -> None:
    spec = {"containers": [{"resources": {"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "2"}}}, {}]}
    assert needs(spec) == {"cpu": 2, "memory": 8 * 2**30, "pods": 1}


def test_the_largest_init_container_counts_and_a_sidecar_stays() -> None:
    """Sidecar 1 for good; init 5 beside it: 6 at the peak; then 3 + 1 = 4. The overhead comes on top."""

    def of(cpu: str, **more: str) -> Object:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {"initContainers": [of("1", restartPolicy="Always"), of("5")], "containers": [of("3")]}
    assert needs(spec)["cpu"] == 6
    assert needs(spec | {"containers": [of("7")], "overhead": {"cpu": "250m"}})["cpu"] == Fraction(33, 4)


def test_amounts_of_the_pod_itself_stand_above_those_of_its_containers() -> None:
    spec = {"containers": [{"resources": {"requests": {"cpu": "1"}}}], "resources": {"requests": {"cpu": "4"}}}
    assert needs(spec)["cpu"] == 4


def test_a_node_that_is_away_or_cordoned_takes_nothing() -> None:
    assert kinds(node(ready="Unknown"), WORKER["spec"]) == ["absent"]
    assert kinds(node(unschedulable=True), WORKER["spec"]) == ["cordoned"]


def test_a_cordon_is_told_once_though_it_is_also_a_taint() -> None:
    taints = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    assert kinds(node(unschedulable=True, taints=taints), WORKER["spec"]) == ["cordoned"]


def test_a_label_that_is_missing_is_named() -> None:
    found = hindrances(node(labels={"a": "c"}), template(spec={"nodeSelector": {"a": "b"}})["spec"], {})
    assert [one.what for one in found] == ["no label a=b"]


TAINT = {"key": "only", "value": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({}, False),
        ({"operator": "Exists"}, True),
        ({"key": "only", "operator": "Exists"}, True),
        ({"key": "only", "value": "gpu"}, True),
        ({"key": "only", "value": "cpu"}, False),
        ({"key": "only", "value": "gpu", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_repels_what_does_not_tolerate_it(toleration: Object, tolerated: bool) -> None:
    spec = template(spec={"tolerations": [toleration]})["spec"]
    assert kinds(node(taints=[TAINT]), spec) == ([] if tolerated else ["taint"])


def test_a_taint_that_only_prefers_repels_nobody() -> None:
    assert kinds(node(taints=[TAINT | {"effect": "PreferNoSchedule"}]), WORKER["spec"]) == []


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["4", "5"], True),
        ("In", ["5"], False),
        ("NotIn", ["5"], True),
        ("NotIn", ["4"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["3"], True),
        ("Gt", ["4"], False),
        ("Lt", ["5"], True),
        ("Bogus", [], False),
    ],
)
def test_node_affinity_holds_as_the_scheduler_reads_it(operator: str, values: list[str], fits: bool) -> None:
    rule = {"key": "generation", "operator": operator, "values": values}
    assert kinds(node(labels={"generation": "4"}), with_terms({"matchExpressions": [rule]})) == (
        [] if fits else ["affinity"]
    )


def with_terms(*terms: Object) -> Object:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}, "containers": []}


def test_one_term_of_several_is_enough_and_an_empty_one_is_none() -> None:
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    assert kinds(node("n1"), with_terms({}, named)) == []
    assert kinds(node("n0"), with_terms({}, named)) == ["affinity"]


def test_each_node_of_voyager_takes_one_worker() -> None:
    assert rooms([node("a"), node("b")], WORKER, {}, {}) == {"a": 1, "b": 1}


def test_workers_of_two_cards_fit_four_to_a_node() -> None:
    assert rooms([node("a")], template(cards="2"), {}, {}) == {"a": 4}


def test_the_scarcest_resource_decides() -> None:
    """8 cards would do for 4, but 40 of 96 threads only for 2."""
    assert rooms([node("a")], template(cards="2", cpu="40"), {}, {}) == {"a": 2}


def test_workers_that_repel_each_other_get_a_node_each() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"job": "j"}}}
    rule = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert rooms([node("a")], template({"job": "j"}, {"affinity": rule}, cards="2"), {}, {}) == {"a": 1}
    assert rooms([node("a")], template({"job": "k"}, {"affinity": rule}, cards="2"), {}, {}) == {"a": 4}


@pytest.mark.parametrize(
    ("port", "network", "most"),
    [
        ({"containerPort": 2, "hostPort": 2}, False, 1),
        ({"containerPort": 9}, True, 1),
        ({"containerPort": 9}, False, 4),
    ],
)
def test_a_port_of_the_node_leaves_room_for_one_worker(port: Object, network: bool, most: int) -> None:
    worker = template({}, {"hostNetwork": network}, cards="2")
    worker["spec"]["containers"][0]["ports"] = [port]
    assert rooms([node("a")], worker, {}, {}) == {"a": most}


def test_pods_hold_their_node_until_they_have_ended() -> None:
    pods = [pod("a", cards="8"), pod("b", phase="Succeeded", cards="8"), pod("", cards="8")]
    held = usage(pods, lambda one: str(one["metadata"]["namespace"]))
    assert rooms([node("a"), node("b")], WORKER, held.lasting, held.taken) == {"a": 0, "b": 1}
    assert held.holders == {"a": {"ben": 8}}


def test_what_a_daemon_holds_is_never_free() -> None:
    """96 threads less 2 of a DaemonSet's pod: 95 never fit."""
    held = usage([pod("a", owner="DaemonSet", cpu="2")], lambda one: "")
    assert rooms([node("a")], WORKER, held.lasting, held.taken) == {}
    assert [one.what for one in hindrances(node("a"), WORKER["spec"], held.lasting["a"])] == ["94 of cpu"]


def test_the_launcher_takes_no_worker_its_place() -> None:
    """A worker leaves 1 of 96 threads, so a launcher of 2 needs a node without one."""
    nodes, launcher = [node("a"), node("b")], template(cpu="2")
    assert beside(nodes, launcher, WORKER, 1, {}, {}) == ["a", "b"]
    assert beside(nodes, launcher, WORKER, 2, {}, {}) == []
    assert beside(nodes, template(cpu="1"), WORKER, 2, {}, {}) == ["a", "b"]


def test_a_pod_counts_in_a_quota_as_the_server_counts_it() -> None:
    limits = {"cpu": "4", "memory": "8Gi", CARD: "8", "hugepages-2Mi": "1Gi"}
    spec = {"containers": [{"resources": {"limits": limits, "requests": {"cpu": "2"}}}]}
    assert quota_use(spec) == {
        "pods": 1,
        "count/pods": 1,
        "cpu": 2,
        "requests.cpu": 2,
        "limits.cpu": 4,
        "memory": 8 * 2**30,
        "requests.memory": 8 * 2**30,
        "limits.memory": 8 * 2**30,
        f"requests.{CARD}": 8,
        "hugepages-2Mi": 2**30,
        "requests.hugepages-2Mi": 2**30,
    }


def quota(hard: Object, used: Object | None = None, **spec: object) -> Object:
    return {"spec": {"hard": hard, **spec}, "status": {"used": used or {}}}


def test_the_whole_job_is_held_against_a_quota() -> None:
    """2 workers of 8 cards: 16; 8 are allowed."""
    (short,) = shortages(quota({f"requests.{CARD}": "8"}), [(WORKER["spec"], 2)], {}) or []
    assert (short.need, short.hard, short.forever) == (16, 8, True)


def test_what_is_in_use_is_short_now_and_not_forever() -> None:
    """3 pods of 5 allowed, 3 in use."""
    (short,) = shortages(quota({"pods": "5"}, {"pods": "3"}), [(WORKER["spec"], 2), ({}, 1)], {}) or []
    assert (short.need, short.used, short.forever) == (3, 3, False)


def test_what_the_job_does_not_ask_for_may_be_used_up() -> None:
    assert shortages(quota({"requests.nvidia.com/gpu": "0"}, {"requests.nvidia.com/gpu": "4"}), [], {}) == []


def test_objects_count_too() -> None:
    """The kit's ConfigMap and the operator's: 2."""
    found = shortages(quota({"configmaps": "1", "count/mpijobs.kubeflow.org": "1"}), [], job_objects(1)) or []
    assert [(one.resource, one.need) for one in found] == [("configmaps", 2)]


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["NotBestEffort", "NotTerminating"]}, True),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]
                }
            },
            False,
        ),
    ],
)
def test_a_quota_counts_only_pods_in_its_scope(spec: Object, counts: bool) -> None:
    found = shortages(quota({"pods": "0"}, **spec), [(WORKER["spec"], 1)], {}) or []
    assert bool(found) is counts


def test_a_scope_that_is_not_known_gives_no_answer() -> None:
    assert shortages(quota({"pods": "0"}, scopes=["CrossNamespacePodAffinity"]), [(WORKER["spec"], 1)], {}) is None


@given(st.integers(1, 50), st.integers(0, 400), st.integers(0, 400))
def test_a_quota_is_short_exactly_if_need_and_use_pass_its_limit(workers: int, hard: int, used: int) -> None:
    """A quota that was made smaller than its use is short of everything that is asked for."""
    name = f"requests.{CARD}"
    found = shortages(quota({name: str(hard)}, {name: str(used)}), [(WORKER["spec"], workers)], {})
    assert bool(found) is (8 * workers + used > hard)


@given(st.integers(1, 8), st.integers(0, 8))
def test_as_many_workers_fit_as_whole_shares_of_free_cards(each: int, held: int) -> None:
    taken = {"a": {CARD: Fraction(held)}}
    assert rooms([node("a")], template(cards=str(each)), {}, taken) == {"a": (8 - held) // each}


@pytest.mark.parametrize("amount", [10, "10", "1e1", "10.0", "0.01k"])
def test_cards_are_counted_however_they_are_written(amount: object) -> None:
    assert cards_of({"containers": [{"resources": {"limits": {CARD: amount}}}]}) == 10


def test_an_exponent_that_nobody_means_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="not a valid quantity"):
        quantity("1e999999999")
