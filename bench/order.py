# SPDX-License-Identifier: Apache-2.0
"""One epoch's order of a million images on 1 to 336 ranks, computed as the trainer computes it; prints a table.

python bench/order.py [IMAGES]: 1,000,000 unless told otherwise, 64 images a rank and step.

Every rank's keys are drawn and counted: each image must come once, but for the rest that makes no whole step. The first
and the last rank are measured, each in a process of its own: CPU time of the epoch's keys, its permutation included,
and the growth of resident memory at its peak.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from vit.data.sampler import MicroBatches, TrainOrder

RANKS = (1, 2, 8, 16, 64, 168, 336)
BATCH = 64
PEAK, NOW = "VmHWM", "VmRSS"


def keys_of(num_images: int, rank: int, world_size: int) -> MicroBatches:
    order = TrainOrder(seed=0, num_images=num_images, global_batch=BATCH * world_size)
    steps = order.steps_per_epoch
    return MicroBatches(order=order, rank=rank, world_size=world_size, accumulation=1, start_step=0, num_steps=steps)


def memory_mb(field: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024 / 1e6


def measure(num_images: int, rank: int, world_size: int, told: Any) -> None:
    """Seconds and megabytes of one rank, in a process that did nothing before."""
    keys_of(BATCH * world_size, 0, world_size).order.batch(0)  # numpy's own first use
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    memory, start = memory_mb(NOW), time.process_time()
    for _ in keys_of(num_images, rank, world_size):
        pass
    told.put((time.process_time() - start, memory_mb(PEAK) - memory))


def measured(num_images: int, rank: int, world_size: int) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    process = context.Process(target=measure, args=(num_images, rank, world_size, told))
    process.start()
    found: tuple[float, float] = told.get()
    process.join()
    return found


def visits(num_images: int, world_size: int) -> np.ndarray[Any, Any]:
    """How often the ranks together visit each image in an epoch."""
    counts = np.zeros(num_images, np.uint32)
    for rank in range(world_size):
        for keys in keys_of(num_images, rank, world_size):
            np.add.at(counts, [index for _, index in keys], 1)
    return counts


def main(num_images: int) -> None:
    print(
        "| ranks | images once | left out | more than once | s of CPU a rank | MB a rank |\n|---|---|---|---|---|---|"
    )
    for world_size in RANKS:
        counts = visits(num_images, world_size)
        once, none, more = (int(np.sum(found)) for found in (counts == 1, counts == 0, counts > 1))
        costs = [measured(num_images, rank, world_size) for rank in sorted({0, world_size - 1})]
        seconds, memory = (max(column) for column in zip(*costs, strict=True))
        rest = num_images % (BATCH * world_size)
        verdict = "" if (none, more) == (rest, 0) else " WRONG"
        print(f"| {world_size} | {once:,} | {none:,}{verdict} | {more} | {seconds:.2f} | {memory:.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
