# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own schemas: types, unknown fields with the nearest known one, what is required, keys that are there twice."""

# ruff: noqa: E501  # sentences for people, one a line, so that they can be searched for
from __future__ import annotations

import sys
from typing import Any

import pytest

from mpikit.errors import KitError
from mpikit.validation.schema import has_kind, metadata_reference, reference, schema_faults, versions, well_typed

NEWEST = versions()[-1]
TEXT: dict[str, Any] = {"type": "string"}
Line = tuple[str, str, str]


def told(value: Any, schema: Any, version: str = NEWEST) -> list[Line]:
    found = list(schema_faults(value, schema, version))
    assert {one.severity for one in found} <= {"fault"}
    return [(one.key, one.message, one.fix) for one in found]


POD = reference("PodSpec")
CONTAINER = {"containers": [{"name": "a"}]}

CASES: list[tuple[Any, Any, list[Line]]] = [
    (POD, CONTAINER, []),
    (POD, {}, [("containers", "is missing", "add it")]),
    (POD, {"containers": None}, [("containers", "is missing", "add it")]),
    (POD, {**CONTAINER, "hostIPc": True}, [("hostIPc", "no such field", "did you mean hostIPC?")]),
    (POD, {"containers": [{"name": "a", "imagePulPolicy": "x"}]}, [("containers[0].imagePulPolicy", "no such field", "did you mean containers[0].imagePullPolicy?")]),
    ({"properties": {"abc": TEXT, "abd": TEXT}}, {"abe": "x"}, [("abe", "no such field", "did you mean abd?")]),
    ({"properties": {"abc": TEXT, "xyz": TEXT}}, {"q": 1}, [("q", "no such field", "known here: abc, xyz")]),
    ({"properties": {"abc": TEXT}}, {1: 1}, [("[1]", "no such field", "known here: abc")]),
    (POD, {**CONTAINER, "nodeSelector": {"a": 1}}, [("nodeSelector.a", "is 1, not a text in quotes", "write a text in quotes")]),
    (POD, {**CONTAINER, "nodeSelector": {"a": None}}, [("nodeSelector.a", "is empty", "give a value, or remove the line")]),
    (POD, {**CONTAINER, "nodeSelector": ["a"]}, [("nodeSelector", "is a list, not a map", "write a map")]),
    (POD, {**CONTAINER, "nodeName": {"a": 1}}, [("nodeName", "is a map, not a text in quotes", "write a text in quotes")]),
    (POD, {**CONTAINER, "hostIPC": "yes"}, [("hostIPC", "is 'yes', not true or false", "write true or false")]),
    (POD, {"containers": "a"}, [("containers", "is 'a', not a list", "write a list")]),
    (POD, {"containers": ["a", None]}, [("containers[0]", "is 'a', not a map", "write a map"), ("containers[1]", "is empty", "remove the line")]),
    (POD, {**CONTAINER, "terminationGracePeriodSeconds": 1.5}, [("terminationGracePeriodSeconds", "is 1.5, not a whole number", "write a whole number")]),
    (POD, {**CONTAINER, "terminationGracePeriodSeconds": 1.0}, []),
    (POD, {**CONTAINER, "terminationGracePeriodSeconds": True}, [("terminationGracePeriodSeconds", "is true, not a whole number", "write a whole number")]),
    (POD, {**CONTAINER, "terminationGracePeriodSeconds": 2**31}, []),
    (POD, {**CONTAINER, "terminationGracePeriodSeconds": 2**63}, [("terminationGracePeriodSeconds", f"{2**63} is too large for the field", "give a smaller number")]),
    (POD, {**CONTAINER, "priority": 2**31 - 1}, []),
    (POD, {**CONTAINER, "priority": -(2**31)}, []),
    (POD, {**CONTAINER, "priority": -(2**31) - 1}, [("priority", f"{-(2**31) - 1} is too large for the field", "give a smaller number")]),
    (POD, {**CONTAINER, "overhead": {"cpu": "1.5", "memory": 7}}, []),
    (POD, {**CONTAINER, "overhead": {"cpu": "1,5"}}, [("overhead.cpu", "'1,5' is not a valid quantity", "write it like 95, 500m, 4Gi or 95000Mi")]),
    (POD, {**CONTAINER, "overhead": {"cpu": [1]}}, [("overhead.cpu", "is a list, not a text in quotes or a whole number", "write a text in quotes or a whole number")]),
    (POD, {"containers": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, [("containers[2]", "a is used twice, first at [0]", "give each its own name")]),
    (POD, {"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}, {"containerPort": 1}]}]}, [("containers[0].ports[2]", "1 is used twice, first at [0]", "give each its own containerPort and protocol")]),
    ({"type": "integer"}, 2**63, [("", f"{2**63} is too large for the field", "give a smaller number")]),
    ({"enum": ["a", "b"]}, "c", [("", "'c' is not known", "one of a, b")]),
    ({"enum": ["a", "b"]}, "b", []),
    ({"type": ["integer", "null"]}, "c", [("", "is 'c', not a whole number", "write a whole number")]),
    ({"oneOf": [{"type": "string"}, {"type": ["integer", "null"]}]}, 1.5, [("", "is 1.5, not a text in quotes or a whole number", "write a text in quotes or a whole number")]),
    ({"type": "object"}, {"anything": [1, {"a": None}]}, []),
    ({"type": "array", "items": TEXT}, ["a", 1], [("[1]", "is 1, not a text in quotes", "write a text in quotes")]),
    (metadata_reference(), {"name": 1, "labels": {"a": "b"}}, [("name", "is 1, not a text in quotes", "write a text in quotes")]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "lines"), CASES)
def test_a_value_is_told_what_its_schema_says(schema: Any, value: Any, lines: list[Line]) -> None:
    assert told(value, schema) == lines


@pytest.mark.parametrize(
    ("schema", "value", "kept"),
    [
        (POD, "a", None),
        (POD, None, None),
        (POD, {"nodeName": 1, "hostIPC": True}, {"hostIPC": True}),
        (POD, {"containers": [{"name": 1, "image": "i"}, "a", None]}, {"containers": [{"image": "i"}, {}, {}]}),
        (POD, {"containers": {}, "nodeSelector": {"a": 1, "b": "c"}}, {"nodeSelector": {"b": "c"}}),
        (POD, {"unknown": {"a": [1]}}, {"unknown": {"a": [1]}}),
        ({"type": "array", "items": TEXT}, ["a", 1, None], ["a", "", ""]),
        ({"type": "array"}, [1, {"a": 2}], [1, {"a": 2}]),
        (TEXT, "a", "a"),
    ],
)
def test_what_has_the_wrong_type_is_left_out_for_the_rules(schema: Any, value: Any, kept: Any) -> None:
    assert well_typed(value, schema, NEWEST) == kept


def test_a_field_is_known_from_its_version_on() -> None:
    pod = {**CONTAINER, "resources": {"limits": {"cpu": "1"}}}
    assert told(pod, POD) == []
    ((key, message, _),) = told(pod, POD, "1.25")
    assert (key, message) == ("resources", "no such field")


def test_the_kinds_of_core_are_known() -> None:
    assert [has_kind(kind, NEWEST) for kind in ("ConfigMap", "Service", "MPIJob", "")] == [True, True, False, False]
    assert versions()[0] == "1.25"
    assert list(versions()) == sorted(versions(), key=lambda version: int(version.split(".")[1]))


def test_without_the_package_of_schemas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes_validate", None)
    monkeypatch.setitem(sys.modules, "kubernetes_validate.utils", None)
    versions.cache_clear()
    try:
        with pytest.raises(KitError) as caught:
            versions()
    finally:
        versions.cache_clear()
    assert str(caught.value).endswith("\n  fix: python -m pip install kubernetes-validate")
    assert str(caught.value).startswith("Python has no kubernetes_validate")
