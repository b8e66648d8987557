# SPDX-License-Identifier: Apache-2.0
"""`submit` where the namespace is being deleted, or a webhook or policy stops it: one sentence, its own fix, one try.

The scripted server answers in the words of a real one (Kubernetes 1.35).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpikit.errors import ClusterError, Forbidden
from mpikit.lifecycle.submit import submit
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

METADATA = {"name": "vit", "namespace": NAMESPACE}
MANIFESTS: list[Object] = [
    {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {**METADATA, "name": "vit-kit"}, "data": {}},
    {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1", "metadata": METADATA, "spec": {}},
]
TERMINATING = (
    'configmaps "vit-kit" is forbidden: unable to create new content in namespace lab because it is being terminated'
)
DENIED = 'admission webhook "sign.example" denied the request: image vit:1 is not signed, you cannot use it'
FAILED = 'Internal error occurred: failed calling webhook "gate.example": failed to call webhook: '
REFUSED = f'{FAILED}Post "https://gate.ns.svc:443/v?timeout=10s": dial tcp 10.0.0.1:443: connect: connection refused'
TIMED_OUT = f'{FAILED}Post "https://gate.ns.svc:443/v?timeout=10s": context deadline exceeded'
POLICY = (
    "mpijobs.kubeflow.org \"vit\" is forbidden: ValidatingAdmissionPolicy 'small' with binding 'all' denied request: "
    "at most 4 workers"
)
GONE = "submit to another namespace (-n), or wait until kubectl get namespace lab finds nothing"
REJECTS = "webhook sign.example of the cluster rejects it"
NO_ANSWER = "MPIJob vit cannot be created: webhook gate.example of the cluster does not answer"
LATER = "try again later; ask the cluster's administrator to repair webhook gate.example"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


def refusing(world: World, kind: str, code: int, message: str, *, dry_run: bool = True) -> None:
    """Refuse objects of a kind; without `dry_run` only the second time, when they are to be created."""

    def answer(request: Request, handler: Handler) -> bool:
        asked = request.method == "PATCH" and f"/{kind}/" in request.path
        if not asked or (not dry_run and "dryRun" in request.query):
            return False
        handler.status(code, "Invalid", message)
        return True

    world.server.answer = answer


def refused(world: World) -> ClusterError:
    with pytest.raises(ClusterError) as found:
        submit(world.cluster(), MANIFESTS, NAMESPACE)
    return found.value


@pytest.mark.parametrize(
    ("kind", "code", "message", "sentence", "fix"),
    [
        ("configmaps", 403, TERMINATING, "namespace lab is being deleted, so ConfigMap vit-kit cannot", GONE),
        ("mpijobs", 403, DENIED, f"MPIJob vit is rejected: {DENIED}", f"{REJECTS}: change what its message names"),
        ("mpijobs", 400, DENIED, f"MPIJob vit is rejected: {DENIED}", REJECTS),
        ("mpijobs", 409, DENIED, f"MPIJob vit is rejected: {DENIED}", REJECTS),
        ("configmaps", 500, DENIED, f"ConfigMap vit-kit is rejected: {DENIED}", REJECTS),
        ("mpijobs", 500, REFUSED, f"{NO_ANSWER} (failed to call webhook: Post", LATER),
        ("mpijobs", 500, TIMED_OUT, NO_ANSWER, LATER),
        ("mpijobs", 422, POLICY, f"MPIJob vit is rejected: {POLICY}", "policy small of the cluster rejects it: change"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_refusal_of_the_cluster_has_one_sentence_and_its_own_fix(
    world: World, kind: str, code: int, message: str, sentence: str, fix: str, dry_run: bool
) -> None:
    refusing(world, kind, code, message, dry_run=dry_run)
    error = refused(world)
    assert error.message.startswith(sentence)
    assert error.hint.startswith(fix)
    assert error.hint.endswith("; nothing was created")
    assert not world.server.store.of("mpijobs")
    assert not world.server.store.of("configmaps")
    tried = [one for one in world.server.requests if one.method == "PATCH" and f"/{kind}/" in one.path]
    assert len(tried) == (1 if dry_run else 2)


def test_what_is_left_behind_is_not_called_nothing(world: World) -> None:
    def answer(request: Request, handler: Handler) -> bool:
        if request.method == "PATCH" and "/mpijobs/" in request.path and "dryRun" not in request.query:
            handler.status(403, "Forbidden", DENIED)
            return True
        if request.method == "DELETE":
            handler.status(403, "Forbidden", 'configmaps "vit-kit" is forbidden: User "ada" cannot delete it')
            return True
        return False

    world.server.answer = answer
    error = refused(world)
    assert isinstance(error, Forbidden)
    assert "left behind: ConfigMap vit-kit; python generate.py delete vit -n lab removes it" in error.message
    assert "nothing was created" not in str(error)
