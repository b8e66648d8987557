# SPDX-License-Identifier: Apache-2.0
"""Sidecars that a mesh adds are reported unless the pods opt out or the sidecar is a native one."""

from __future__ import annotations

from typing import Any

import pytest

from mpikit.preflight.injection import sidecar_faults
from mpikit.sidecars import injection, remedy_of

Object = dict[str, Any]


def item(labels: Object | None = None, annotations: Object | None = None, **spec: Any) -> Object:
    return {"metadata": {"labels": labels or {}, "annotations": annotations or {}}, "spec": spec}


PLAIN = item()
INJECTING = {
    "istio": item({"istio-injection": "enabled"}),
    "istio by revision": item({"istio.io/rev": "1-27"}),
    "linkerd": item(annotations={"linkerd.io/inject": "ingress"}),
    "kuma": item({"kuma.io/sidecar-injection": "enabled"}),
}
LEFT_ALONE: dict[str, tuple[Object, Object]] = {
    "nothing": (PLAIN, PLAIN),
    "istio disabled beats a revision": (item({"istio-injection": "disabled", "istio.io/rev": "canary"}), PLAIN),
    "ambient mode has no sidecars": (item({"istio.io/dataplane-mode": "ambient"}), PLAIN),
    "istio, by an annotation": (INJECTING["istio"], item(annotations={"sidecar.istio.io/inject": "false"})),
    "istio, by a label": (INJECTING["istio by revision"], item({"sidecar.istio.io/inject": "false"})),
    "linkerd": (INJECTING["linkerd"], item(annotations={"linkerd.io/inject": "disabled"})),
    "kuma": (INJECTING["kuma"], item({"kuma.io/sidecar-injection": "disabled"})),
    "the network of the host": (INJECTING["istio"], item(hostNetwork=True)),
}


@pytest.mark.parametrize("name", INJECTING)
def test_a_namespace_that_injects_is_found_and_its_switch_turns_it_off(name: str) -> None:
    found = injection(INJECTING[name], PLAIN)
    assert found
    mesh, cause = found
    assert "=" in cause
    assert injection(INJECTING[name], item(**{mesh.place: {mesh.key: mesh.off}})) is None


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_pods_that_are_left_alone(name: str) -> None:
    assert injection(*LEFT_ALONE[name]) is None


@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_pods_that_ask_for_a_sidecar_themselves(place: str) -> None:
    found = injection(PLAIN, item(**{place: {"sidecar.istio.io/inject": "true"}}))
    assert found is not None


def pods(*containers: str, first: tuple[Object, ...] = ()) -> dict[str, Object]:
    spec = {"containers": [{"name": name} for name in containers], "initContainers": list(first)}
    return {"Launcher": item(**spec), "Worker": item(**spec)}


def test_doctor_believes_the_dry_run_before_the_labels() -> None:
    before = pods("main")
    native = ({"name": "istio-proxy", "restartPolicy": "Always"}, {"name": "istio-init"})
    (warned,) = sidecar_faults(PLAIN, before, pods("vault-agent", "main"), "lab")
    assert warned.severity == "warning"
    assert "vault-agent" in warned.message
    assert "native sidecar" in warned.fix
    (fine,) = sidecar_faults(INJECTING["istio"], before, pods("main", first=native), "lab")
    assert (fine.severity, "istio-proxy" in fine.message) == ("ok", True)
    (asked,) = sidecar_faults(INJECTING["kuma"], before, before, "lab")
    assert "launcher and worker pods (label kuma.io/sidecar-injection=enabled)" in asked.message
    assert 'launcher.labels: and worker.labels: to {kuma.io/sidecar-injection: "disabled"}' in asked.fix
    assert list(sidecar_faults(PLAIN, before, before, "lab")) == []


def test_the_remedy_is_in_the_words_of_whoever_wrote_the_job() -> None:
    assert "launcher.annotations:" in remedy_of(["linkerd-proxy"])
    assert "pod templates" in remedy_of(["linkerd-proxy"], ours=False)
