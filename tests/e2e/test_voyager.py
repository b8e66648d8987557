# SPDX-License-Identifier: Apache-2.0
"""Voyager in a box: 42 simulated nodes with 8 Gaudi cards, and users' namespaces as the site gives them out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from jobs import RunningJob, generate, settings, submit
from kube import Kube, wait_for
from testcluster import simulated

RUNNING_SECONDS = 60
# nodes: a global batch that its ranks divide
BATCH = {1: 512, 2: 512, 42: 672, 43: 688}


@pytest.fixture
def users(kube: Kube) -> Iterator[list[str]]:
    """Two users with a namespace and a service account each; their jobs are gone afterwards."""
    names = ["ann", "ben"]
    if len(kube.all("default", "nodes", f"{simulated.CATEGORY}=gaudi")) != simulated.VOYAGER_NODES:
        pytest.skip("this cluster is not simulated Voyager: scripts/cluster up --site voyager")
    for name in names:
        kube.create(*simulated.user_namespace(name))
    yield names
    spaces = [f"{name}-restricted" for name in names]
    for space in spaces:
        kube("-n", space, "delete", "mpijobs", "--all", "--cascade=foreground")
    kube("delete", "namespace", *spaces)


def voyager_words(user: str, nodes: int, **more: object) -> list[str]:
    """Words for generate.py: the default values, which are Voyager's."""
    return ["--nodes", str(nodes), *settings(user=user, globalBatch=BATCH[nodes], **more)]


def submit_for(kube: Kube, user: str, words: list[str]) -> RunningJob:
    """Apply a user's job; the values alone choose its namespace."""
    return submit(kube, f"{user}-restricted", words)


@pytest.mark.parametrize("nodes", [1, 2, 42])
def test_a_job_on_this_many_nodes_runs_with_one_worker_on_each(kube: Kube, users: list[str], nodes: int) -> None:
    """Judged by the operator (Running) and the scheduler (as many Gaudi nodes as workers)."""
    job = submit_for(kube, users[0], voyager_words(users[0], nodes))
    job.wait_running(RUNNING_SECONDS)
    places = {pod["spec"]["nodeName"] for pod in job.pods("worker")}
    assert len(places) == nodes
    assert all(place.startswith("gaudi-") for place in places)
    assert job.launcher["spec"]["nodeName"].startswith("compute-")
    assert job.launcher["spec"]["serviceAccountName"] == users[0]


def test_the_last_worker_of_43_stays_pending_for_want_of_cards(kube: Kube, users: list[str]) -> None:
    """Judged by the scheduler: its own words on the one pod that has no node."""
    job = submit_for(kube, users[0], voyager_words(users[0], 43))
    wait_for("42 workers to run", lambda: len(running(job)) == simulated.VOYAGER_NODES, RUNNING_SECONDS)
    (pending,) = [pod for pod in job.pods("worker") if pod["status"]["phase"] == "Pending"]
    (reason,) = [one for one in pending["status"]["conditions"] if one["type"] == "PodScheduled"]
    assert reason["reason"] == "Unschedulable"
    assert re.search(r"0/45 nodes are available: .*\d+ Insufficient habana.ai/gaudi", reason["message"])
    assert not job.holds("Running")


def running(job: RunningJob) -> list[str]:
    """Names of the workers that run."""
    return [pod["metadata"]["name"] for pod in job.pods("worker") if pod["status"]["phase"] == "Running"]


def test_jobs_of_two_users_with_the_same_name_do_not_meet(kube: Kube, users: list[str]) -> None:
    """Judged by the operator and the scheduler: both run on nodes of their own, and one's end leaves the other."""
    jobs = [submit_for(kube, user, voyager_words(user, 2, name="same")) for user in users]
    for job in jobs:
        job.wait_running()
    places = {pod["spec"]["nodeName"] for job in jobs for pod in job.pods("worker")}
    assert len(places) == 4
    kube("-n", jobs[0].namespace, "delete", "mpijob", "same", "--cascade=foreground")
    assert not jobs[0].pods("worker")
    assert len(running(jobs[1])) == 2


def test_a_job_that_fails_and_one_that_succeeds_are_told_apart(kube: Kube, users: list[str]) -> None:
    """Judged by the operator, from launchers that kwok ends with exit code 3 and 0."""
    for user, result, verdict in ((users[0], "fail", "Failed"), (users[1], "succeed", "Succeeded")):
        job = submit_for(kube, user, voyager_words(user, 1))
        job.wait_running()
        notes = (f"mpikit.test/result={result}", *(("mpikit.test/exit-code=3",) if result == "fail" else ()))
        kube("-n", job.namespace, "annotate", "pod", job.launcher["metadata"]["name"], *notes)
        assert job.wait_end(30) == verdict
        assert job.exit_code() == (3 if result == "fail" else 0)


def test_what_the_api_server_keeps_of_a_42_node_job_is_what_was_printed(kube: Kube, users: list[str]) -> None:
    """Judged by kubectl diff, which exits 0 only if the server's object and the manifest agree."""
    words = voyager_words(users[0], 42)
    submit_for(kube, users[0], words)
    assert kube.run("diff", "-f", "-", text=generate(*words)).code == 0


def test_a_repaired_job_resumes_without_the_excluded_node(kube: Kube, users: list[str]) -> None:
    """Judged by the operator (Suspended, then Running) and the scheduler; a second call changes nothing."""
    job = submit_for(kube, users[0], voyager_words(users[0], 2))
    job.wait_running()
    before = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in job.pods("worker")}
    bad = before[f"{job.name}-worker-1"]
    words = ["repair", job.name, "-n", job.namespace, "--kubeconfig", kube.kubeconfig, "--force", "--exclude"]
    assert generate(*words, bad) == f"MPIJob {job.name} excludes {bad}\n"
    uids = {pod["metadata"]["uid"] for pod in job.pods("worker")}
    wait_for("the new workers to run", lambda: len(running(job)) == 2, RUNNING_SECONDS)
    job.wait_running()
    assert bad not in {pod["spec"]["nodeName"] for pod in job.pods("worker")}
    resumed = {pod["metadata"]["uid"] for pod in job.pods("worker")}
    assert generate(*words, bad) == f"MPIJob {job.name} excludes {bad} already\n"
    assert {pod["metadata"]["uid"] for pod in job.pods("worker")} == resumed | uids
    other = before[f"{job.name}-worker-0"]
    with pytest.raises(AssertionError, match=r"may exclude 1 nodes \(restarts.exclude.max\)"):
        generate(*words, other)
