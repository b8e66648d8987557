# SPDX-License-Identifier: Apache-2.0
"""Which images each rank sees when: pure functions of the seed, so that a resume needs no saved state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vit.errors import DataError

Key = tuple[int, int]
"""(epoch, index): one visit of one image; index -1 is padding."""

PADDING: Key = (0, -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOrder:
    """Global batch k of an epoch is positions [kG, (k+1)G) of its permutation; each rank takes its slice of it."""

    seed: int
    num_images: int
    global_batch: int

    def __post_init__(self) -> None:
        if self.num_images < self.global_batch:
            what = f"{self.num_images} training images are fewer than one global batch of {self.global_batch}"
            raise DataError("data", what, "lower --train_batch_size or use fewer ranks")

    @property
    def steps_per_epoch(self) -> int:
        """num_images / global_batch, rounded down: the rest of each epoch's permutation is left out."""
        return self.num_images // self.global_batch

    def epoch_of(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return round(step / self.steps_per_epoch, 6)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> list[Key]:
        """Return the rank's share of the global batch of update number `step`, from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self.global_batch // world_size
        start = position * self.global_batch + rank * size
        share = permutation(self.seed, epoch, self.num_images)[start : start + size]
        return [(epoch, index) for index in share.tolist()]


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, num_images: int) -> np.ndarray[Any, Any]:
    """The epoch's order of all images; RandomState because numpy promises never to change its streams (NEP 19)."""
    return np.random.RandomState([seed, epoch]).permutation(num_images)


def sample_random(seed: int, key: Key) -> np.random.RandomState:
    """The generator of one visit's augmentation: Philox, whose key is its whole state: ready in a tenth of the time."""
    epoch, index = key
    return np.random.RandomState(np.random.Philox(key=[seed, epoch << 40 | index]))


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatches:
    """Keys of one rank's micro-batches from `start_step` to `num_steps`, `accumulation` of them a step."""

    order: TrainOrder
    rank: int
    world_size: int
    accumulation: int
    start_step: int
    num_steps: int

    def __iter__(self) -> Iterator[list[Key]]:
        size = self.order.global_batch // self.world_size // self.accumulation
        for step in range(self.start_step, self.num_steps):
            mine = self.order.batch(step, self.rank, self.world_size)
            for part in range(self.accumulation):
                yield mine[part * size : (part + 1) * size]

    def __len__(self) -> int:
        return (self.num_steps - self.start_step) * self.accumulation


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalBatches:
    """Keys of one rank's validation batches: each image once over all ranks, the last batches padded to full size."""

    num_images: int
    rank: int
    world_size: int
    batch_size: int

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(self.rank * self.batch_size, len(self) * self._stride, self._stride):
            indices = range(start, start + self.batch_size)
            yield [(0, index) if index < self.num_images else PADDING for index in indices]

    def __len__(self) -> int:
        return -(-self.num_images // self._stride)

    @property
    def _stride(self) -> int:
        return self.world_size * self.batch_size
