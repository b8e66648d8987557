# SPDX-License-Identifier: Apache-2.0
"""`status` on every fault that a cluster can show, each made for real; the table is in faults.py."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
import yaml
from faults import FAULTS, SLEEP, Fault, both, containers
from jobs import ROOT, generate, settings
from kube import Kube, Object, wait_for
from testcluster import simulated

SMALL = both(
    containers(["Launcher", "Worker"], resources={"requests": {"cpu": "5m", "memory": "16Mi"}}),
    containers(["Launcher"], command=SLEEP),
)
VERDICT_SECONDS = 120  # an eviction takes the kubelet's next look at its disks
Planted = dict[str, tuple[str, str]]
"""Name of a fault -> namespace and name of its job."""


def status(kube: Kube, namespace: str, name: str, *more: str) -> Object:
    """What `generate.py status -o json` says."""
    words = ["status", name, "-n", namespace, "-o", "json", "--kubeconfig", kube.kubeconfig, *more]
    command = [sys.executable, str(ROOT / "generate.py"), "--no-user-file", *words]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    found: Object = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def planted(kube: Kube, simulated_nodes: list[str]) -> Iterator[Planted]:
    """All faults at once: they do not meet, and most need time to show."""
    mark = uuid.uuid4().hex[:6]
    spaces = {f"test-{'own' if fault.labels else fault.place}-{space_of(fault)}-{mark}": fault for fault in FAULTS}
    for name, fault in spaces.items():
        kube.create(namespace(name, fault.place, **fault.labels))
    places = {space_of(fault): name for name, fault in spaces.items()}
    try:
        for name in spaces:
            wait_for("its service account", functools.partial(kube.get, name, "serviceaccount", "default"), 30)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            names = list(pool.map(lambda fault: plant(kube, fault, places[space_of(fault)]), FAULTS))
        yield {fault.name: (places[space_of(fault)], name) for fault, name in zip(FAULTS, names, strict=True)}
    finally:
        for name in spaces:
            release(kube, name)
            kube("-n", name, "delete", "mpijobs", "--all", "--wait=false")
            kube("delete", "namespace", name, "--wait=false")
        for name in spaces:
            wait_for(f"the pods of {name} to go", functools.partial(gone, kube, name), 90)


def release(kube: Kube, name: str) -> None:
    """Remove the finalizers of the jobs of a namespace."""
    for job in kube.all(name, "mpijobs"):
        if job["metadata"].get("finalizers"):
            words = ("--type=merge", "-p", '{"metadata":{"finalizers":null}}')
            kube("-n", name, "patch", "mpijob", job["metadata"]["name"], *words)


def gone(kube: Kube, name: str) -> bool:
    """Whether a namespace has no pods."""
    return not kube.all(name, "pods")


def space_of(fault: Fault) -> str:
    """What tells the namespace of a fault from others."""
    return fault.name if fault.labels else fault.place


def namespace(name: str, place: str, **labels: str) -> Object:
    """A namespace whose pods go to the real node, or to the simulated ones."""
    found = simulated.namespace(name)
    if place == "real":
        found["metadata"].pop("annotations")
    found["metadata"]["labels"] = labels
    return found


def plant(kube: Kube, fault: Fault, space: str) -> str:
    """Make a fault; the name of its job."""
    words = settings(user="ada", name=f"f-{fault.name}"[:50])
    text = generate("-f", "values/cpu.yaml", *words, "-n", space)
    config, job = yaml.safe_load_all(text)
    SMALL(job)
    fault.change(job)
    for item in fault.before(space):
        kube.create(item)
    if fault.before(space):
        wait_for(
            "the quota to be counted", lambda: kube.get(space, "resourcequota", "q").get("status", {}).get("used"), 20
        )
    kube.create(config, job)
    if fault.after:
        fault.after(kube, space, job["metadata"]["name"])
    return str(job["metadata"]["name"])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_status_tells_what_is_wrong_and_what_to_change(kube: Kube, planted: Planted, fault: Fault) -> None:
    """Judged by the API server, the operator, the scheduler and the kubelet, in whose words each fault is told."""
    space, name = planted[fault.name]

    def right() -> Object | None:
        found = status(kube, space, name)
        return found if re.fullmatch(fault.verdict, found["verdict"]) else None

    try:
        found = wait_for(fault.verdict, right, VERDICT_SECONDS)
    except AssertionError as late:
        raise AssertionError(f"{late}: {json.dumps(status(kube, space, name), indent=1)}") from None
    assert re.search(fault.reason, found["reason"]), found
    assert re.search(fault.advice, found["advice"]), found
    assert re.search(fault.message, found["message"]), found
    assert found["since"] or found["reason"] == "NotFound"


def test_a_crash_loop_is_named_at_every_look(kube: Kube, planted: Planted) -> None:
    """The kubelet says CrashLoopBackOff only while it waits; the second failure comes within seconds of the first."""
    space, name = planted["launcher-init-that-crash-loops"]
    wait_for("the crash loop", lambda: status(kube, space, name)["reason"] == "CrashLoopBackOff", VERDICT_SECONDS)
    looks = [status(kube, space, name)["reason"] for _ in range(10)]
    assert set(looks) == {"CrashLoopBackOff"}
