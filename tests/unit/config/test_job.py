# SPDX-License-Identifier: Apache-2.0
"""Numbers that follow from nodes and cards, and flags that follow from the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mpikit.config.job import Job, smoke_settings
from mpikit.text.units import amount

MakeJob = Callable[..., Job]


def flags(job: Job) -> dict[str, str]:
    return {words[0]: words[-1] for words in job.trainer_flags}


@pytest.mark.parametrize(("nodes", "batch", "micro"), [(1, 64, 32), (2, 32, 16), (4, 16, 8), (8, 8, 4), (32, 2, 1)])
def test_the_global_batch_stays_512_when_nodes_change(make_job: MakeJob, nodes: int, batch: int, micro: int) -> None:
    job = make_job(f"nodes={nodes}")
    assert (job.rank_batch, job.micro_batch, job.real_global_batch) == (batch, micro, 512)


def test_the_trainer_gets_the_upstream_flags(make_job: MakeJob) -> None:
    got = flags(make_job("nodes=2"))
    assert got["--train_batch_size"] == "32"
    assert got["--gradient_accumulation_steps"] == "2"
    assert got["--learning_rate"] == "0.03"
    assert got["--autocast"] == "--autocast"
    assert got["--device"] == "hpu"


def test_a_batch_set_by_hand_wins(make_job: MakeJob) -> None:
    job = make_job("nodes=3", "train.train_batch_size=16")
    assert (job.rank_batch, job.real_global_batch) == (16, 384)


@pytest.mark.parametrize(("cards", "pe", "per_socket"), [(8, 6, 4), (4, 12, 2), (2, 24, 1)])
def test_ranks_are_bound_to_cores_of_their_own_where_the_host_is_known(
    make_job: MakeJob, cards: int, pe: int, per_socket: int
) -> None:
    job = make_job(f"cards={cards}")
    assert f"ppr:{per_socket}:socket:PE={pe}" in job.placement_4
    assert f"ppr:{per_socket}:package:PE={pe}" in job.placement_5


def test_an_uneven_split_over_sockets_binds_nothing(make_job: MakeJob) -> None:
    assert make_job("cards=1").cores_per_rank is None


def test_threads_follow_the_cores_else_the_cpu_limit(make_job: MakeJob) -> None:
    assert make_job().num_threads == 6
    assert make_job("host=null").num_threads == 95 // 8
    assert make_job("host=null", "resources.limits.cpu=1500m", "cards=1").num_threads == 1


def test_the_name_follows_from_user_and_ranks(make_job: MakeJob) -> None:
    assert make_job("nodes=2").job_name == "ada-vit-16cards"
    assert make_job("name=other").job_name == "other"


def test_a_run_keeps_its_name_when_nodes_change(make_job: MakeJob) -> None:
    assert make_job("nodes=2").train.name == make_job("nodes=4").train.name


@pytest.mark.parametrize(("model", "seconds"), [("tiny", 46), ("ViT-B_16", 58), ("ViT-H_14", 140)])
def test_the_grace_period_follows_from_the_time_a_save_takes(make_job: MakeJob, model: str, seconds: int) -> None:
    assert make_job(f"train.model_type={model}").grace_seconds == seconds
    assert make_job(f"train.model_type={model}", "terminationGracePeriodSeconds=7").grace_seconds == 7


def test_mydir_is_mounted_if_and_only_if_it_is_set(make_job: MakeJob) -> None:
    assert "mydir" not in [mount.name for mount in make_job().folders]
    assert make_job("mydir=/m").folders[0].name == "mydir"


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("95", 95), ("500m", "0.5"), ("4Gi", 4 << 30), ("95000Mi", 95000 << 20), ("1Ki", 1024), ("2k", 2000)],
)
def test_quantities_are_read_as_kubernetes_reads_them(quantity: str, number: object) -> None:
    assert str(amount(quantity).normalize().__format__("f")) == str(number)


def test_a_smoke_run_is_one_node_with_the_same_images_a_card(make_job: MakeJob) -> None:
    full = make_job("nodes=4")
    smoke = make_job(*(f"{key}={value}" for key, value in smoke_settings(full).items()))
    assert (smoke.nodes, smoke.train.num_steps, smoke.micro_batch) == (1, 20, full.micro_batch)
    assert smoke.job_name != full.job_name
    assert smoke.train.name != full.train.name
