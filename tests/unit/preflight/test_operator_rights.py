# SPDX-License-Identifier: Apache-2.0
"""`doctor` and the right of the MPI Operator to update jobs/status, without which no job resumes. Scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpikit.diagnostics import Diagnostic
from mpikit.preflight.operator_rights import check_operator_rights, permits
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import World

Object = dict[str, Any]
MANIFEST_RULE = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list", "update", "watch"]}
RULE = {"apiGroups": ["batch"], "resources": ["jobs/status"], "verbs": ["get", "update", "patch"]}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


def binding(role: str, **subject: str) -> Object:
    subjects = [{"kind": "ServiceAccount", "name": "other", "namespace": "kube-system"}, subject]
    metadata = {"name": f"{role}-binding"}
    return {"metadata": metadata, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects}


def serve(world: World, review: bool | None, roles: dict[str, Object], *bindings: Object) -> None:
    """Answer as a server on which the user may review access (None: may not), and read these roles (empty: may not)."""

    def answer(request: Request, handler: Handler) -> bool:
        *_, kind = (word for word in request.path.split("/") if word.endswith(("s", "bindings")))
        name = request.path.rpartition("/")[2]
        if request.path.endswith("/subjectaccessreviews") and review is not None:
            handler.send(201, json.dumps({"kind": "SubjectAccessReview", "status": {"allowed": review}}).encode())
        elif kind == "clusterrolebindings" and roles:
            handler.send(200, json.dumps({"kind": "ClusterRoleBindingList", "items": bindings}).encode())
        elif name in roles:
            handler.send(200, json.dumps({"kind": "ClusterRole", "rules": [roles[name]]}).encode())
        else:
            handler.status(403, "Forbidden", f'{kind} is forbidden: User "ada" cannot read it')
        return True

    world.server.answer = answer


def found(world: World, deployments: tuple[Object, ...] = (), release: str = "0.8.2") -> list[Diagnostic]:
    return list(check_operator_rights(world.cluster(), deployments, release))


ACCOUNT = {"kind": "ServiceAccount", "name": "mpi-operator", "namespace": "mpi-operator"}


@pytest.mark.parametrize(
    ("review", "roles", "bindings", "told"),
    [
        (False, {}, [], True),
        (True, {}, [], False),
        (None, {"mpi-operator": MANIFEST_RULE}, [binding("mpi-operator", **ACCOUNT)], True),
        (None, {"mpi-operator": RULE}, [binding("mpi-operator", **ACCOUNT)], False),
        (None, {"a": MANIFEST_RULE, "b": RULE}, [binding("a", **ACCOUNT), binding("b", **ACCOUNT)], False),
        (None, {"a": RULE}, [binding("a", kind="ServiceAccount", name="mpi-operator", namespace="ada")], True),
        (None, {"a": RULE}, [binding("a", kind="Group", name="system:serviceaccounts:mpi-operator")], False),
        (None, {"a": RULE}, [binding("a", kind="User", name="system:serviceaccount:mpi-operator:mpi-operator")], False),
        (None, {}, [], False),  # nothing can be seen
    ],
)
def test_an_operator_that_cannot_resume_jobs_causes_a_warning(
    world: World, review: bool | None, roles: dict[str, Object], bindings: list[Object], told: bool
) -> None:
    serve(world, review, roles, *bindings)
    checks = found(world)
    assert [one.severity for one in checks] == (["warning"] if told else [])
    for one in checks:
        assert "a suspended MPIJob gets no launcher when it resumes" in one.message
        assert "kubectl create clusterrole mpi-operator-jobs-status --verb=get,update,patch" in one.fix
        assert "--serviceaccount=mpi-operator:mpi-operator" in one.fix


def test_the_account_is_that_of_the_deployment(world: World) -> None:
    serve(world, None, {"a": RULE}, binding("a", **ACCOUNT))
    spec = {"template": {"spec": {"serviceAccountName": "mpi"}}}
    (told,) = found(world, ({"metadata": {"name": "mpi-operator", "namespace": "kubeflow"}, "spec": spec},))
    assert "--clusterrole=mpi-operator-jobs-status --serviceaccount=kubeflow:mpi" in told.fix


def test_an_older_operator_does_not_need_the_right(world: World) -> None:
    serve(world, False, {})
    assert found(world, release="0.8.0") == []
    assert [one.key for one in found(world, release="")] == ["operator"]


@pytest.mark.parametrize(
    ("rule", "enough"),
    [
        (RULE, True),
        ({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, True),
        ({"apiGroups": ["batch"], "resources": ["*/status"], "verbs": ["update"]}, True),
        (MANIFEST_RULE, False),
        ({**RULE, "verbs": ["get", "patch"]}, False),
        ({**RULE, "apiGroups": ["kubeflow.org"]}, False),
        ({**RULE, "resourceNames": ["one-job-launcher"]}, False),
        ({"nonResourceURLs": ["/healthz"], "verbs": ["*"]}, False),
    ],
)
def test_the_rules_of_a_role(rule: Object, enough: bool) -> None:
    assert permits({"rules": [MANIFEST_RULE, rule]}) is enough
    assert permits({}) is False
