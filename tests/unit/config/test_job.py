# SPDX-License-Identifier: Apache-2.0
"""Numbers that follow from nodes and cards."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from mpikit.config.job import Job, smoke_settings
from mpikit.text.units import another_name, quantity

MakeJob = Callable[..., Job]


@pytest.mark.parametrize(("nodes", "batch", "micro"), [(1, 64, 32), (2, 32, 16), (4, 16, 8), (8, 8, 4), (32, 2, 1)])
def test_the_global_batch_stays_512_when_nodes_change(make_job: MakeJob, nodes: int, batch: int, micro: int) -> None:
    job = make_job(f"nodes={nodes}")
    assert (job.rank_batch, job.micro_batch, job.real_global_batch) == (batch, micro, 512)


def test_a_batch_set_by_hand_wins(make_job: MakeJob) -> None:
    job = make_job("nodes=3", "train.train_batch_size=16")
    assert (job.rank_batch, job.real_global_batch) == (16, 384)


@pytest.mark.parametrize(
    ("settings", "counts", "share"),
    [
        (("nodes=8", "restarts.minNodes=2"), (2, 4, 8), (32, 8)),
        (("nodes=4", "restarts.minNodes=1"), (1, 2, 4), (64, 8)),
        (("nodes=4",), (4,), (64, 8)),
        (("nodes=6", "globalBatch=480", "restarts.minNodes=5"), (5, 6), (60, 12)),
        (("nodes=3", "train.train_batch_size=16", "restarts.minNodes=2"), (2, 3), (48, 6)),
    ],
)
def test_fewer_nodes_have_the_same_global_batch_in_micro_batches_that_fit(
    make_job: MakeJob, settings: tuple[str, ...], counts: tuple[int, ...], share: tuple[int, int]
) -> None:
    """`share`: of a quarter of the nodes, of 5 of 6, of 1 of 3."""
    job = make_job(*settings)
    few = {8: 2, 4: 1, 6: 1, 3: 1}[job.nodes]
    assert job.node_counts == counts
    images, parts = job.share(few) or (0, 1)
    assert images * few * job.cards == job.real_global_batch
    assert images // parts <= job.micro_batch
    assert (images, parts) == share


def test_mixup_needs_micro_batches_of_even_size(make_job: MakeJob) -> None:
    job = make_job("nodes=3", "cards=1", "globalBatch=18", "train.mixup=0.2", "train.gradient_accumulation_steps=1")
    assert [job.share(count) for count in (3, 2, 1)] == [(6, 1), None, (18, 3)]


def test_the_name_follows_from_user_and_ranks(make_job: MakeJob) -> None:
    assert make_job("nodes=2").job_name == "ada-vit-16cards"
    assert make_job("name=other").job_name == "other"


@pytest.mark.parametrize(("name", "following"), [("job", "job-2"), ("job-2", "job-3"), ("a-9", "a-10"), ("2", "2-2")])
def test_another_name_has_the_next_number(name: str, following: str) -> None:
    assert another_name(name) == following


def test_another_name_still_leaves_room_for_the_workers(make_job: MakeJob) -> None:
    longest = make_job("nodes=16").longest_name
    assert make_job("nodes=16", f"name={'x' * (longest - 2)}-9").another_name == f"{'x' * (longest - 3)}-10"


def test_a_run_keeps_its_name_when_nodes_change(make_job: MakeJob) -> None:
    assert make_job("nodes=2").train.name == make_job("nodes=4").train.name


def test_mydir_is_mounted_if_and_only_if_it_is_set(make_job: MakeJob) -> None:
    assert "mydir" not in [mount.name for mount in make_job().folders]
    assert make_job("mydir=/m").folders[0].name == "mydir"


@pytest.mark.parametrize(
    ("text", "number"),
    [("95", 95), ("500m", "0.5"), ("4Gi", 4 << 30), ("95000Mi", 95000 << 20), ("1Ki", 1024), ("2k", 2000)],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: int | str) -> None:
    assert quantity(text) == Fraction(number)


def test_a_smoke_run_is_one_node_with_the_same_images_a_card(make_job: MakeJob) -> None:
    full = make_job("nodes=4")
    smoke = make_job(*(f"{key}={value}" for key, value in smoke_settings(full).items()))
    assert (smoke.nodes, smoke.train.num_steps, smoke.micro_batch) == (1, 20, full.micro_batch)
    assert smoke.job_name != full.job_name
    assert smoke.train.name != full.train.name
