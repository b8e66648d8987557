# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from vit.data.sampler import EvalBatches, MicroBatches, TrainOrder
from vit.errors import DataError  # after the skip

ORDER = TrainOrder(seed=3, num_images=50, global_batch=8)


def micro(rank: int, world_size: int, accumulation: int, start_step: int = 0) -> list[list[tuple[int, int]]]:
    batches = MicroBatches(
        order=ORDER,
        rank=rank,
        world_size=world_size,
        accumulation=accumulation,
        start_step=start_step,
        num_steps=15,
    )
    assert len(list(batches)) == len(batches)
    return list(batches)


def test_an_epoch_visits_each_image_at_most_once_and_drops_the_rest() -> None:
    visits = [key for step in range(ORDER.steps_per_epoch) for key in ORDER.batch(step)]
    assert ORDER.steps_per_epoch == 6
    assert len(set(visits)) == len(visits) == 48
    assert {epoch for epoch, _ in visits} == {0}


def test_epochs_have_different_orders_and_the_step_names_them() -> None:
    assert [epoch for epoch, _ in ORDER.batch(6)] == [1] * 8
    assert [index for _, index in ORDER.batch(6)] != [index for _, index in ORDER.batch(0)]
    assert ORDER.epoch_of(9) == 1.5


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 1)])
def test_any_split_over_ranks_and_micro_batches_is_the_same_global_batch(world_size: int, accumulation: int) -> None:
    parts = [micro(rank, world_size, accumulation) for rank in range(world_size)]
    for step in range(15):
        mine = [part[step * accumulation + i] for part in parts for i in range(accumulation)]
        assert [key for batch in mine for key in batch] == ORDER.batch(step)


def test_a_resume_continues_where_the_order_was() -> None:
    assert micro(1, 2, 2, start_step=7) == micro(1, 2, 2)[14:]


def test_the_permutation_is_pinned_so_that_runs_resume_across_versions() -> None:
    assert TrainOrder(seed=0, num_images=6, global_batch=3).batch(0) == [(0, 3), (0, 5), (0, 4)]


def test_fewer_images_than_one_global_batch_names_both_numbers() -> None:
    with pytest.raises(DataError, match="7 training images are fewer than one global batch of 8"):
        TrainOrder(seed=0, num_images=7, global_batch=8)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_evaluation_visits_each_of_101_images_once_in_full_batches(world_size: int) -> None:
    ranks = [
        list(EvalBatches(num_images=101, rank=rank, world_size=world_size, batch_size=8)) for rank in range(world_size)
    ]
    indices = [index for batches in ranks for batch in batches for _, index in batch if index >= 0]
    assert sorted(indices) == list(range(101))
    assert {len(batch) for batches in ranks for batch in batches} == {8}
    assert len({len(batches) for batches in ranks}) == 1
