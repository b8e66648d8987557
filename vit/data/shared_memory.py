# SPDX-License-Identifier: Apache-2.0
"""Batches in memory that processes share: loaders write pixels into its slots, and the rank reads them there.

The memory is a file without a name (memfd_create), so it needs no /dev/shm, which has 64 MB in a pod unless more is
asked for. It counts as memory of the container.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

from vit.data.sampler import Key

AHEAD_BATCHES = 4  # decoded before they are asked for: a late file or a slow step empties no more than that
AHEAD_IMAGES = 8  # of each process at least, where batches are small
MOST_IMAGES = 16  # of one piece of work: the last one of a batch keeps the others waiting no longer than that
IDLE = -1
MOST_PIECES = 64  # of a batch: each is a message, and together they stay far below the capacity of a pipe

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Sizes of a ring; everything else follows from them."""

    batch_size: int
    side: int
    kind: str
    """numpy's name of a value: uint8, or float32 where images come normalised."""
    num_workers: int

    @property
    def num_slots(self) -> int:
        """Batches in the ring: the one in use, and those ahead."""
        return 1 + max(AHEAD_BATCHES, math.ceil(AHEAD_IMAGES * self.num_workers / self.batch_size))

    @property
    def piece(self) -> int:
        """Images that a process takes at once: few enough to share out a batch, enough to be worth a message."""
        shared = math.ceil(self.batch_size / (2 * self.num_workers))
        return max(min(shared, MOST_IMAGES), math.ceil(self.batch_size / MOST_PIECES))

    @property
    def num_bytes(self) -> int:
        """Size of the memory, nearly all of it pixels."""
        return sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in self.parts().values())

    def parts(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Arrays in their order: kind and shape; the pixels last, for the others need the alignment."""
        batch = (self.num_slots, self.batch_size)
        return {
            "labels": ("int64", batch),
            "keys": ("int64", (*batch, 2)),
            "reading": ("int64", (self.num_workers, 2)),
            "images": (self.kind, (*batch, self.side, self.side, 3)),
        }


class Ring:
    """The memory as arrays. It can be given to a process that is being started, in whatever way it is started."""

    labels: Array
    """(slots, B)"""
    keys: Array
    """(slots, B, 2): epoch and index of each image, as the rank asks for them."""
    reading: Array
    """(processes, 2): images that it has begun, and the index of the last of them; -1 while it has no work."""
    images: Array
    """(slots, B, S, S, 3)"""

    def __init__(self, layout: Layout) -> None:
        """Raises OSError if such memory is unavailable."""
        self.layout = layout
        self.descriptor = os.memfd_create("vit-ring")
        try:
            os.ftruncate(self.descriptor, layout.num_bytes)
            self._map()
        except OSError:
            self.close()
            raise
        self.reading[:, 1] = IDLE

    def _map(self) -> None:
        self.memory = np.frombuffer(mmap.mmap(self.descriptor, self.layout.num_bytes), np.uint8)
        start = 0
        for name, (kind, shape) in self.layout.parts().items():
            stop = start + np.dtype(kind).itemsize * math.prod(shape)
            setattr(self, name, self.memory[start:stop].view(kind).reshape(shape))
            start = stop

    def __getstate__(self) -> tuple[Layout, Any]:
        return self.layout, DupFd(self.descriptor)

    def __setstate__(self, state: tuple[Layout, Any]) -> None:
        self.layout, duplicate = state
        self.descriptor = duplicate.detach()
        self._map()

    def put_keys(self, slot: int, keys: Sequence[Key]) -> None:
        """Record what belongs in the slot."""
        self.keys[slot, : len(keys)] = keys

    def read_keys(self, slot: int, start: int, stop: int) -> list[Key]:
        """Return what was recorded for these places of the slot."""
        return [(epoch, index) for epoch, index in self.keys[slot, start:stop].tolist()]

    def close(self) -> None:
        """Give the file up: the memory lives as long as it is mapped."""
        os.close(self.descriptor)
