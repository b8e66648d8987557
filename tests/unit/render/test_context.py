# SPDX-License-Identifier: Apache-2.0
"""What scripts and pods need beside the values: flags, placement, seconds, and what each pod may do."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mpikit.config.job import REQUIRED, Job
from mpikit.config.prepare import weights_task
from mpikit.errors import ValuesError
from mpikit.render.context import PodContext, ScriptContext, image_of, launcher_pod, task_pod, worker_pod

MakeJob = Callable[..., Job]


def flags(job: Job) -> dict[str, str]:
    return {words[0]: words[-1] for words in ScriptContext(job).trainer_flags}


def pods_of(job: Job) -> tuple[PodContext, PodContext, PodContext]:
    """Launcher, worker and the pod of a weights Job."""
    task = weights_task(job, "ViT-B_16", "imagenet21k")
    return launcher_pod(job, "kit", None), worker_pod(job, "kit", None), task_pod(job, task, "kit")


def test_the_trainer_gets_the_upstream_flags(make_job: MakeJob) -> None:
    got = flags(make_job("nodes=2"))
    assert got["--train_batch_size"] == "32"
    assert got["--gradient_accumulation_steps"] == "2"
    assert got["--learning_rate"] == "0.03"
    assert got["--autocast"] == "--autocast"
    assert got["--device"] == "hpu"


@pytest.mark.parametrize(("cards", "pe", "per_socket"), [(8, 6, 4), (4, 12, 2), (2, 24, 1)])
def test_ranks_are_bound_to_cores_of_their_own_where_the_host_is_known(
    make_job: MakeJob, cards: int, pe: int, per_socket: int
) -> None:
    script = ScriptContext(make_job(f"cards={cards}"))
    assert f"ppr:{per_socket}:socket:PE={pe}" in script.placement_4
    assert f"ppr:{per_socket}:package:PE={pe}" in script.placement_5


def test_an_uneven_split_over_sockets_binds_nothing(make_job: MakeJob) -> None:
    assert ScriptContext(make_job("cards=1")).cores_per_rank is None


def test_threads_follow_the_cores_else_the_cpu_limit(make_job: MakeJob) -> None:
    assert ScriptContext(make_job()).num_threads == 6
    assert ScriptContext(make_job("host=null")).num_threads == 95 // 8
    assert ScriptContext(make_job("host=null", "resources.limits.cpu=1500m", "cards=1")).num_threads == 1


SPREAD = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
WORKERS = {"training.kubeflow.org/job-name": "j", "training.kubeflow.org/job-role": "worker"}
RACK = {"topologyKey": "rack", "labelSelector": {}}


@pytest.mark.parametrize(
    "settings",
    [
        ("nodes=1", "cards=4"),  # nothing to spread
        ("nodes=2", "cards=8"),  # a Gaudi node has no ninth card
    ],
)
def test_workers_that_cannot_share_a_node_need_no_rule(make_job: MakeJob, settings: tuple[str, ...]) -> None:
    worker = pods_of(make_job(*settings))[1]
    assert (worker.affinity, set(worker.more_fields)) == ({}, {"automountServiceAccountToken"})


def test_other_workers_prefer_a_node_without_one_of_their_job(make_job: MakeJob) -> None:
    launcher, worker, task = pods_of(make_job("nodes=2", "cards=4", "name=j"))
    assert worker.more_fields["topologySpreadConstraints"] == [{**SPREAD, "labelSelector": {"matchLabels": WORKERS}}]
    assert all("topologySpreadConstraints" not in pod.more_fields for pod in (launcher, task))


def test_a_spread_of_the_user_takes_the_place_of_ours(make_job: MakeJob) -> None:
    worker = pods_of(make_job("nodes=2", "cards=4", "worker.podSpec.topologySpreadConstraints=[]"))[1]
    assert worker.more_fields["topologySpreadConstraints"] == []


@pytest.mark.parametrize("cards", [4, 8])
def test_one_per_node_is_required_beside_the_affinity_of_the_user(make_job: MakeJob, cards: int) -> None:
    own = f"worker.affinity={json.dumps({'podAntiAffinity': {REQUIRED: [RACK]}, 'nodeAffinity': {}})}"
    _, worker, _ = pods_of(make_job("nodes=2", f"cards={cards}", "name=j", "worker.onePerNode=true", own))
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": WORKERS}}
    assert worker.affinity == {"podAntiAffinity": {REQUIRED: [RACK, term]}, "nodeAffinity": {}}
    assert "topologySpreadConstraints" not in worker.more_fields


@pytest.mark.parametrize(
    ("affinity", "key"),
    [
        ({"podAntiAffinity": ["a"]}, "podAntiAffinity"),
        ({"podAntiAffinity": {REQUIRED: {}}}, f"podAntiAffinity.{REQUIRED}"),
    ],
)
def test_an_affinity_that_takes_no_term_is_an_error(make_job: MakeJob, affinity: object, key: str) -> None:
    with pytest.raises(ValuesError) as caught:
        make_job("nodes=2", "worker.onePerNode=true", f"worker.affinity={json.dumps(affinity)}")
    assert [fault.key for fault in caught.value.faults] == [f"worker.affinity.{key}"]


@pytest.mark.parametrize(("model", "seconds"), [("tiny", 46), ("ViT-B_16", 71), ("ViT-H_14", 234)])
def test_the_grace_period_follows_from_the_time_a_save_takes(make_job: MakeJob, model: str, seconds: int) -> None:
    assert ScriptContext(make_job(f"train.model_type={model}")).grace_seconds == seconds
    assert ScriptContext(make_job(f"train.model_type={model}", "terminationGracePeriodSeconds=7")).grace_seconds == 7


def test_a_bare_minor_release_names_the_image_of_its_newest_pinned_build(make_job: MakeJob) -> None:
    assert image_of(make_job("synapse=1.20")).endswith("pytorch-installer-2.6.0:1.20.0-543")
    assert image_of(make_job("synapse=1.20", "image=mine:1")) == "mine:1"


def test_only_a_worker_has_cards_a_port_to_wait_for_and_a_hook_to_stop(make_job: MakeJob) -> None:
    pods = pods_of(make_job("nodes=2"))
    assert [pod.resources["limits"].get("habana.ai/gaudi") for pod in pods] == [None, 8, None]
    assert [pod.ready_port for pod in pods] == [None, 22, None]
    assert [pod.host_port for pod in pods] == [None, None, None]
    assert [bool(pod.stop_command) for pod in pods] == [False, True, False]


def test_workers_in_the_network_of_their_node_leave_port_22_to_it(make_job: Callable[..., Job]) -> None:
    job = make_job('worker.podSpec={"hostNetwork": true}')
    assert [pod.host_port for pod in pods_of(job)] == [None, 2222, None]
    assert [pod.ready_port for pod in pods_of(job)] == [None, 2222, None]
    assert ScriptContext(make_job('launcher.podSpec={"hostNetwork": true}')).own_ssh_port is None


def test_a_pod_without_root_has_a_name_for_its_user_and_a_port_above_1024(make_job: MakeJob) -> None:
    for pod in pods_of(make_job("runAsUser=1000", "sshAuthMountPath=/home/mpi/.ssh")):
        assert pod.passwd
        assert pod.more_fields["securityContext"]["runAsUser"] == 1000
        assert pod.container_security
        assert pod.ready_port in (None, 2222)


def test_a_security_context_of_the_values_wins_over_that_of_run_as_user(make_job: MakeJob) -> None:
    own = 'worker.podSpec={"securityContext": {"fsGroup": 7}}'
    job = make_job("runAsUser=1000", "sshAuthMountPath=/home/mpi/.ssh", own)
    context = worker_pod(job, "kit", None).more_fields["securityContext"]
    assert (context["runAsUser"], context["fsGroup"]) == (1000, 7)


def test_pods_of_mydir_mount_no_config_map_and_name_the_scripts_they_were_rendered_for(make_job: MakeJob) -> None:
    job = make_job("delivery=mydir", "mydir=/m")
    for pod in (launcher_pod(job, "kit", "abc"), worker_pod(job, "kit", "abc")):
        assert pod.kit_name is None
        assert pod.annotations["mpikit/scripts-sha256"] == "abc"
        assert pod.command[1].startswith("/mydir/")


def test_a_task_runs_where_the_launcher_may_with_the_volumes_of_the_workers(make_job: MakeJob) -> None:
    volumes = 'worker.volumes=[{"name": "venv", "emptyDir": {}}]'
    job = make_job('launcher.nodeSelector={"kind": "cpu"}', 'worker.nodeSelector={"kind": "gaudi"}', volumes)
    _, _, pod = pods_of(job)
    assert pod.node_selector["kind"] == "cpu"
    assert [volume["name"] for volume in pod.volumes] == ["venv"]
    assert pod.labels["app.kubernetes.io/component"] == "fetch"
