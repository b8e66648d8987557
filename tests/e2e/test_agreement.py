# SPDX-License-Identifier: Apache-2.0
"""check against the API server and the operator, mutant by mutant: both take a manifest, or both refuse it.

Long: scripts/soak manifests --cases N. AGREEMENT_CASES and AGREEMENT_SEED choose the mutants, named by their seeds.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import random
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from jobs import ROOT, generate
from kube import Kube, Object, wait_for
from mutations import mutated

from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import Target, check_manifest
from tests.support.operator_cases import CASES as BOUNDS
from tests.support.operator_cases import HOSTILE, TEXTS, places, replaced, rich_job

CASES, FIRST = int(os.environ.get("AGREEMENT_CASES", "60")), int(os.environ.get("AGREEMENT_SEED", "0"))
BATCH = 100  # the operator is waited for once a batch
VALIDATION_SECONDS = 60
BLIND_SECONDS = 5  # a job gets its status within one
KUBERNETES = "1.35"  # the test cluster's
INT32_MAX = 2**31 - 1
# Disagreements that stay, by a word of what check says and what the cluster says; each has its reason.
KNOWN = {
    "did you mean spec.mpiReplicaSpecs.": "the CRD takes any name beside Launcher, and the operator ignores it",
    "kubeflow.org/mpi-operator, kueue": "an unknown managedBy is stored, and then nothing ever happens",
    ".serviceAccountName: ": "no account can have that name; the server only says that it does not find it",
    "is not a valid image reference": "the server takes it, and the kubelet says InvalidImageName",
    ".claimName: ": "no claim can have that name; the server takes it, and the pod waits for ever",
    ": is empty (give a value, or remove the line)": "null in a map is 0 or no text to the server, which nobody means",
}
# What admission refuses of objects that are not in the manifest; check cannot know them.
ABSENT = ("error looking up service account", "no PriorityClass", "RuntimeClass")


@dataclass
class Server:
    """The API server by one kept connection, through kubectl proxy."""

    connection: http.client.HTTPConnection

    def __call__(self, method: str, path: str, body: Object | None = None) -> tuple[int, Object]:
        """Status and answer of one request."""
        text = json.dumps(body) if body is not None else None
        self.connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.fixture
def server(kube: Kube) -> Iterator[Server]:
    command = [kube.kubectl, "--kubeconfig", kube.kubeconfig, "proxy", "--port=0"]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert proxy.stdout
    try:
        port = int(proxy.stdout.readline().strip().rpartition(":")[2])
        yield Server(http.client.HTTPConnection("127.0.0.1", port, timeout=60))
    finally:
        proxy.terminate()
        proxy.wait()


@pytest.fixture
def shut(kube: Kube) -> Iterator[str]:
    """A namespace in which jobs are judged and no pod can start."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": name}}
    kube("create", "namespace", name)
    kube.create(quota | {"spec": {"hard": {"pods": "0"}}})
    yield name
    kube("-n", name, "delete", "mpijobs", "--all", "--wait=false")
    kube("delete", "namespace", name, "--wait=false")


def bases() -> tuple[Object, Object]:
    """The MPIJobs that are mutated, in turn: cpu.yaml's, and one with every field that values can set; suspended."""
    words = ("-f", "values/cpu.yaml", "--set", "user=ada", "--nodes", "2")
    texts = generate(*words), (ROOT / "tests" / "contract" / "golden" / "everything-on.yaml").read_text()
    jobs = [one for text in texts for one in yaml.safe_load_all(text) if one["kind"] == "MPIJob"]
    for job in jobs:
        job["spec"]["runPolicy"]["suspend"] = True
        job["spec"]["runPolicy"].pop("managedBy", None)  # the operator looks at nothing of a job that Kueue manages
        for replica in job["spec"]["mpiReplicaSpecs"].values():  # admission asks for these before it validates
            for name in ("serviceAccountName", "priorityClassName"):
                replica["template"]["spec"].pop(name, None)
    return jobs[0], jobs[1]


def as_the_operator_makes_it(job: Object, role: str) -> Object:
    """A pod of a replica's template with what the operator adds and overrides."""
    replica = job["spec"]["mpiReplicaSpecs"][role]
    template = copy.deepcopy(replica.get("template") or {})
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    kept = {name: metadata[name] for name in ("labels", "annotations") if name in metadata}
    spec["restartPolicy"] = replica.get("restartPolicy") or "Never"
    spec |= {"hostname": f"dry-run-{role.lower()}", "subdomain": "dry-run"}
    added = {"ssh-auth": job["spec"].get("sshAuthMountPath") or "/root/.ssh"}
    if role == "Launcher":
        added["mpi-job-config"] = "/etc/mpi"
    spec["volumes"] = [*(spec.get("volumes") or []), *({"name": name, "emptyDir": {}} for name in added)]
    for container in spec.get("containers", [])[:1]:
        mounts = [{"name": name, "mountPath": path} for name, path in added.items()]
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), *mounts]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept | {"name": "dry-run"}, "spec": spec}


def judged(server: Server, jobs: dict[str, Object], shut: str, open_: str) -> dict[str, str]:
    """What the API server or the operator says against each job; empty if nothing."""
    said = {name: _created(server, job, shut, open_) for name, job in jobs.items()}
    looked_at = {name for name, text in said.items() if not text and _managed_here(jobs[name])}
    for event in _events(server, shut, looked_at):
        if event["reason"] == "ValidationError":
            said[event["involvedObject"]["name"]] = said[event["involvedObject"]["name"]] or event["message"]
    server("DELETE", f"/apis/kubeflow.org/v2beta1/namespaces/{shut}/mpijobs", {})
    server("DELETE", f"/api/v1/namespaces/{shut}/events")
    return said


def _managed_here(job: Object) -> bool:
    """Whether the operator looks at a job at all."""
    return ((job.get("spec") or {}).get("runPolicy") or {}).get("managedBy") in (None, "kubeflow.org/mpi-operator")


def _events(server: Server, namespace: str, jobs: set[str]) -> list[Object]:
    """All events, once the operator has said something of each of these jobs, in an event or in its status."""
    deadline = time.monotonic() + VALIDATION_SECONDS
    while True:
        stored = server("GET", f"/apis/kubeflow.org/v2beta1/namespaces/{namespace}/mpijobs")[1]["items"]
        events: list[Object] = server("GET", f"/api/v1/namespaces/{namespace}/events")[1]["items"]
        answered = {one["metadata"]["name"] for one in stored if one.get("status", {}).get("conditions")}
        answered |= {event["involvedObject"]["name"] for event in events}
        if jobs <= answered:
            return events
        assert time.monotonic() < deadline, f"the operator says nothing of {sorted(jobs - answered)}"
        time.sleep(1)


def _event(server: Server, namespace: str, reason: str) -> Object:
    """The first event with this reason; the operator may set a condition of the job before it sends one."""
    deadline = time.monotonic() + VALIDATION_SECONDS
    while True:
        events: list[Object] = server("GET", f"/api/v1/namespaces/{namespace}/events")[1]["items"]
        for event in events:
            if event["reason"] == reason:
                return event
        assert time.monotonic() < deadline, f"no event {reason} among {[event['reason'] for event in events]}"
        time.sleep(0.5)


def _created(server: Server, job: Object, shut: str, open_: str) -> str:
    """Store a job, or tell why not; never one that the operator cannot read: it would see no other job any more."""
    if job.get("apiVersion") != "kubeflow.org/v2beta1":
        return "no such version"
    path = f"/apis/kubeflow.org/v2beta1/namespaces/{shut}/mpijobs?fieldValidation=Strict"
    code, answer = server("POST", f"{path}&dryRun=All", job)
    if code >= 400:
        return str(answer["message"])
    spec = job.get("spec") or {}  # the CRD takes a job without one
    for role, replica in (spec.get("mpiReplicaSpecs") or {}).items():
        if role in ("Launcher", "Worker") and replica:
            pod = as_the_operator_makes_it(job, role)
            code, answer = server("POST", f"/api/v1/namespaces/{open_}/pods?dryRun=All&fieldValidation=Strict", pod)
            if code >= 400 and not any(word in answer["message"] for word in ABSENT):
                return f"{role}: {answer['message']}"
    if _unreadable(spec):
        return "the operator cannot read it"
    server("POST", path, job)
    return ""


def _unreadable(spec: Object) -> bool:
    """Whether a number outside the pods is one that the operator's int32 cannot hold; the API server stores it."""
    fields = {**spec, **(spec.get("runPolicy") or {}), **((spec.get("runPolicy") or {}).get("schedulingPolicy") or {})}
    numbers = [value for name, value in fields.items() if name != "activeDeadlineSeconds"]
    numbers += [one.get("replicas") for one in (spec.get("mpiReplicaSpecs") or {}).values() if one]
    return any(isinstance(number, int) and abs(number) > INT32_MAX for number in numbers)


def refused(job: Object) -> str:
    """The faults that check finds; empty if none."""
    found = check_manifest(read_manifest(json.dumps(job), "job.json"), Target(kubernetes=KUBERNETES))
    return "; ".join(f"{one.key}: {one.message} ({one.fix})" for one in found if one.severity == "fault")


def disagreement(ours: str, theirs: str, known: Counter[str]) -> list[str]:
    """Both verdicts if they differ; one that is known is counted instead."""
    if bool(ours) == bool(theirs):
        return []
    reasons = [reason for word, reason in KNOWN.items() if word in ours]
    known.update(reasons[:1])
    return [] if reasons else [f"    check: {ours or 'takes it'}\n    cluster: {theirs or 'takes it'}"]


def batches(jobs: Sequence[Object]) -> Iterator[dict[str, Object]]:
    """The jobs by name, in as few batches as names that meet allow."""
    batch: dict[str, Object] = {}
    for number, job in enumerate(jobs):
        metadata = job.get("metadata")
        given = metadata.get("name") if isinstance(metadata, dict) else None
        name = given if isinstance(given, str) and given else f"unnamed-{number}"
        if given == "foo":
            job["metadata"]["name"] = name = f"foo-{number}"
        if name in batch or len(batch) == BATCH:
            yield batch
            batch = {}
        batch[name] = job
    yield batch


def test_check_and_the_cluster_agree_at_the_bounds_and_on_hostile_values(
    server: Server, shut: str, namespace: str
) -> None:
    """Judged by the API server and the MPI Operator: all bounds, and a sample of hostile values in any place."""
    pairs = [(path, value) for path in places(rich_job()) for value in HOSTILE]
    chosen = random.Random(FIRST).sample(pairs, min(CASES, len(pairs)))
    jobs = [case.job for case in BOUNDS] + [replaced(path, value) for path, value in chosen]
    differing, known = [], Counter[str]()
    for batch in batches(jobs):
        said = judged(server, batch, shut, namespace)
        for name, job in batch.items():
            differing += [f"{job}\n{one}" for one in disagreement(refused(job), said[name], known)]
    print("\n".join(f"    {number} x known: {reason}" for reason, number in known.items()))
    assert not differing, f"{len(differing)} differ\n" + "\n".join(differing)


@pytest.mark.parametrize("name", TEXTS)
def test_kubectl_reads_a_text_as_check_does(kube: Kube, name: str) -> None:
    """Judged by kubectl and the API server; tests/unit/validation/test_operator_cases.py has check's side."""
    text, good = TEXTS[name]
    done = kube.run("create", "--dry-run=server", "-f", "-", text=text)
    assert (done.code == 0 and bool(done.out)) is good, done


def test_check_and_the_cluster_agree_on_mutated_manifests(
    server: Server, shut: str, namespace: str, tmp_path: Path
) -> None:
    """Judged by the API server and the MPI Operator."""
    originals, differing, count, known = bases(), [], {True: 0, False: 0}, Counter[str]()
    for start in range(FIRST, FIRST + CASES, BATCH):
        cases: dict[str, tuple[Object, str]] = {}
        for seed in range(start, min(start + BATCH, FIRST + CASES)):
            job, told = mutated(originals[seed % 2], seed)
            job["metadata"]["name"] = f"m{seed}"
            job["metadata"].pop("namespace", None)
            cases[f"m{seed}"] = job, told
        said = judged(server, {name: job for name, (job, _) in cases.items()}, shut, namespace)
        for name, (job, told) in cases.items():
            ours = refused(job)
            count[bool(ours)] += 1
            differing += [f"{name} [{told}]\n{one}" for one in disagreement(ours, said[name], known)]
    print(
        f"{CASES} mutants from seed {FIRST}: check takes {count[False]}, refuses {count[True]}; {len(differing)} differ"
    )
    print("\n".join(f"    {number} x known: {reason}" for reason, number in known.items()))
    assert not differing, f"{len(differing)} differ\n" + "\n".join(differing)


@pytest.mark.skipif("KUBECONFIG" in os.environ, reason="it would blind the operator of somebody's cluster for seconds")
def test_a_number_that_the_operator_cannot_hold_blinds_it_and_is_refused_by_check(server: Server, shut: str) -> None:
    """Judged by the MPI Operator: beside such a job it takes no other one; without it, it does again."""
    path = f"/apis/kubeflow.org/v2beta1/namespaces/{shut}/mpijobs"
    blinding, good = bases()[0], bases()[0]
    blinding["metadata"], good["metadata"] = {"name": "blinding"}, {"name": "good"}
    blinding["spec"]["runPolicy"]["backoffLimit"] = INT32_MAX + 1
    assert "too large" in refused(blinding)
    assert [server("POST", f"{path}?fieldValidation=Strict", job)[0] for job in (blinding, good)] == [201, 201]
    time.sleep(BLIND_SECONDS)
    assert "status" not in server("GET", f"{path}/good")[1]
    server("DELETE", f"{path}/blinding")
    wait_for("the operator to see again", lambda: server("GET", f"{path}/good")[1].get("status"), VALIDATION_SECONDS)


@pytest.mark.parametrize(
    ("kind", "path"), [("ConfigMap", "configmaps"), ("Secret", "secrets"), ("Service", "services")]
)
def test_an_object_with_a_name_that_the_operator_needs_stops_the_job(
    server: Server, shut: str, kind: str, path: str
) -> None:
    """Judged by the MPI Operator's event; check refuses the stream of both."""
    job = bases()[0] | {"metadata": {"name": "j"}}
    job["spec"]["runPolicy"]["suspend"] = False
    name = {"ConfigMap": "j-config", "Secret": "j-ssh", "Service": "j"}[kind]
    other = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    other |= {"spec": {"ports": [{"port": 1}]}} if kind == "Service" else {}
    text = f"{json.dumps(job)}\n---\n{json.dumps(other)}"
    found = check_manifest(read_manifest(text, "a"), Target(kubernetes=KUBERNETES))
    assert [fault.key for fault in found if fault.severity == "fault"] == ["metadata.name"]
    assert server("POST", f"/api/v1/namespaces/{shut}/{path}", other)[0] == 201
    assert server("POST", f"/apis/kubeflow.org/v2beta1/namespaces/{shut}/mpijobs", job)[0] == 201
    event = _event(server, shut, "ErrResourceExists")
    assert f'"{name}"' in event["message"]


def test_the_jobs_before_mutation_are_taken_by_both(server: Server, shut: str, namespace: str) -> None:
    jobs: dict[str, Any] = {"plain": bases()[0], "everything-on": bases()[1]}
    for name, job in jobs.items():
        job["metadata"] = {"name": name}
        assert refused(job) == ""
    assert judged(server, jobs, shut, namespace) == {"plain": "", "everything-on": ""}
