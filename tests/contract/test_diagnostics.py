# SPDX-License-Identifier: Apache-2.0
"""The lint of diagnostics finds what it is for. The fixture plain_words applies it to each diagnostic of every test."""

from __future__ import annotations

import pytest

from mpikit.diagnostics import Diagnostic, fault, passed, warning
from tests.support.plain_words import lint

BAD = {
    "no fix": fault("a", "is wrong"),
    "a warning without a fix": warning("a", "is rarely meant"),
    "no message": fault("a", "", "set it"),
    "None": fault("a", "there is no volume None", "the pod has kit"),
    "None among choices": fault("a", "is not known", "the pod has None, kit"),
    "a boolean": fault("a", "is True, not a number", "write a number"),
    "a list": fault("a", "['x'] is not a number", "write a number"),
    "a map": fault("a", "{'a': 1} is not a number", "write a number"),
    "a class": fault("a", "<class 'int'> is wanted", "write a number"),
    "an object": fault("a", "<mpikit.Job object at 0x7f> is wrong", "change it"),
    "a traceback": fault("a", "Traceback (most recent call last)", "change it"),
    "an exception": fault("a", "ValueError('x')", "change it"),
    "a path": fault("a", "PosixPath(/x) does not exist", "create it"),
    "pydantic": fault("a", "Input should be a valid string", "write text"),
    "yaml": fault("a", "not YAML: mapping values are not allowed here", "check the colon"),
    "urllib3": fault("a", "HTTPSConnectionPool(host=x)", "check the network"),
    "os": fault("a", "[Errno 2] No such file or directory", "create it"),
    "json": fault("a", "Expecting value: line 1 column 1 (char 0)", "write JSON"),
    "in a fix": fault("a", "is wrong", "set it to None"),
}
GOOD = [
    fault("a", "'None' is not known", "one of Always, None, Never"),
    fault("a", "\"{'a': 1}\" is not a number", "write a number"),
    fault("a", "the node's own sshd has the port that the job's sshd wants", "set hostNetwork: false"),
    fault("a", "'x' is not a field of a pod", "metadata.name, metadata.labels['KEY'], spec.nodeName"),
    passed("nodes", "2 nodes are free"),
]


@pytest.mark.parametrize("case", BAD)
def test_words_that_are_not_for_a_user_are_found(case: str) -> None:
    assert lint(BAD[case])


@pytest.mark.parametrize("one", GOOD, ids=lambda one: one.message)
def test_plain_words_pass(one: Diagnostic) -> None:
    assert lint(one) == []
