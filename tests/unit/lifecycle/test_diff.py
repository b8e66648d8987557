# SPDX-License-Identifier: Apache-2.0
"""A refusal by the server comes with what to do about it."""

from __future__ import annotations

import pytest

from mpikit.errors import ClusterError, Forbidden, NotFound
from mpikit.lifecycle.diff import explained

JOB = {"kind": "MPIJob", "metadata": {"name": "job"}}


def missing(kind: str) -> NotFound:
    error = NotFound("not there")
    error.kind = kind
    return error


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (missing("namespaces"), "set namespace: (now lab), or create it: kubectl create namespace lab"),
        (missing("services"), "run python generate.py doctor, which checks everything that the job needs"),
        (Forbidden("ada cannot create mpijobs"), "ask for ClusterRole kubeflow-mpijobs-edit in namespace lab"),
    ],
)
def test_a_refusal_says_what_to_do(error: ClusterError, fix: str) -> None:
    found = explained(error, JOB, "lab")
    assert type(found) is type(error)
    assert str(found).startswith(f"MPIJob job is rejected: {error.message}\n  fix: {fix}")
    assert found.hint.endswith("; nothing was created")


def test_a_refusal_that_says_what_to_do_is_handed_on() -> None:
    error = Forbidden("these credentials are not accepted", "log in again")
    assert explained(error, JOB, "lab") is error
