# SPDX-License-Identifier: Apache-2.0
"""check agrees with the MPI Operator at the bounds of its rules, and says one clear thing of any document."""

from __future__ import annotations

import json
import re

import pytest

from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import Target, check_manifest
from tests.support.operator_cases import CASES, HOSTILE, TEXTS, Case, Path, places, replaced, rich_job

# What Python writes of its values; cleanPodPolicy: None is a word of the operator.
_OF_PYTHON = re.compile(r"(?<!of )\b(None|True|False)\b|<class|object at 0x|NoneType|\[\]|\{\}|Traceback")
RESTRICTED = Target("1.35", "0.6", "restricted")


def refused(text: str) -> list[str]:
    """Keys of the errors."""
    return [
        one.key for one in check_manifest(read_manifest(text, "job.yaml"), Target("1.35")) if one.severity == "fault"
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_operators_own_rules_hold(case: Case) -> None:
    assert refused(json.dumps(case.job)) == list(case.refused)


def test_the_job_with_a_field_of_each_type_is_taken() -> None:
    assert refused(json.dumps(rich_job())) == []


@pytest.mark.parametrize("path", list(places(rich_job())), ids=str)
def test_any_value_in_any_place_is_judged_in_plain_words(path: Path) -> None:
    """No traceback, nothing of Python, and of a value that is no map at most one error for its place."""
    for value in HOSTILE:
        text = json.dumps(replaced(path, value))
        found = check_manifest(read_manifest(text, "job.yaml"), RESTRICTED)
        said = [words for one in found for words in (one.message, one.fix)]
        assert not [words for words in said if _OF_PYTHON.search(words) or not words], value
        if not isinstance(value, (dict, list)):
            keys = refused(text)
            renamed = "volumes" in path and path[-1] == "name"  # its mount is then an error of its own
            assert len(keys) <= 1 + renamed, (value, keys)


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_is_read_as_kubectl_reads_it(name: str) -> None:
    text, good = TEXTS[name]
    found = check_manifest(read_manifest(text, "job.yaml"), Target("1.35"))
    faults = [one for one in found if one.severity == "fault"]
    assert (not faults) is good, faults
    assert all(one.message and one.fix and not _OF_PYTHON.search(one.message) for one in faults)
