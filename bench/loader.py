# SPDX-License-Identifier: Apache-2.0
"""All cores: the loader's ring, torch's DataLoader over the same images, and bare processes, against one core alone.

python bench/loader.py [--rounds 7] [--photographs 48] [--seconds 8] [--workers CORES]

The images are those of bench/input.py, 384 px, batches of 64, augment inception; the consumer only takes batches.
Each side runs for --seconds after its first batches, so starts and what is decoded ahead count nowhere. Sides take
turns. Two figures of each, as shares of cores x the one-core rate of the same round:

  wall      images a second. On a machine with other work it is low for every side, by chance more for one than another.
  unshared  what it would be without other work: CPU time of an image of one core / CPU time of an image, the consumer's
            included, times the share of the wall time that the processes were running or ready to run, by the kernel's
            own count (/proc/PID/schedstat). A process that waits for the loader is neither.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from photographs import SIDE, write_photographs

from vit.data.batches import Batches
from vit.data.datasets import FolderSource
from vit.data.loader import open_loader
from vit.data.sampler import Key
from vit.images.transforms import inception
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks

BATCH = 64
WARM = 8  # batches


@dataclass(frozen=True)
class Measured:
    """One side in one round."""

    images: int
    wall: float
    cpu: float
    active: float
    """Seconds that the processes were running or ready, all of them together."""


def times_of(pid: int) -> tuple[float, float]:
    """(seconds on a core, seconds of waiting for one) of all threads of a process."""
    lines = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(line[0]) for line in lines) / 1e9, sum(int(line[1]) for line in lines) / 1e9


def keys_of(num_images: int) -> Iterator[list[Key]]:
    """Batches without end."""
    for epoch in itertools.count():
        for start in range(0, num_images - BATCH + 1, BATCH):
            yield [(epoch, (start + place) % num_images) for place in range(BATCH)]


def consume(batches: Iterator[Any], seconds: float) -> Measured:
    """Take batches for so long; the processes that decode are this one's children."""
    for _ in range(WARM):
        next(batches)
    pids = [process.pid for process in multiprocessing.active_children()]
    count, start, before = 0, time.perf_counter(), [times_of(pid) for pid in [os.getpid(), *pids]]
    while (wall := time.perf_counter() - start) < seconds:
        next(batches)
        count += BATCH
    spent = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, map(times_of, [os.getpid(), *pids]), strict=True)]
    return Measured(count, wall, sum(run for run, _ in spent), sum(run + ready for run, ready in spent[1:]))


def ring(batches: Batches, workers: int, seconds: float) -> Measured:
    loader = open_loader(
        batches, keys_of(len(batches.source)), Device(Ranks()), num_workers=workers, read_timeout_seconds=600
    )
    try:
        return consume(loader, seconds)
    finally:
        loader.close()  # type: ignore[attr-defined]


class Listed(torch.utils.data.Dataset[Any]):
    """Batches as torch's DataLoader wants them."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, keys: list[Key]) -> Any:
        batch = self.batches.batch(keys)
        return batch.images, batch.labels


def unchanged(batch: Any) -> Any:
    return batch


def dataloader(batches: Batches, workers: int, seconds: float) -> Measured:
    loader = torch.utils.data.DataLoader(
        Listed(batches),
        batch_size=None,
        sampler=keys_of(len(batches.source)),
        collate_fn=unchanged,
        num_workers=workers,
        prefetch_factor=4,
        multiprocessing_context="fork",
    )
    iterator = iter(loader)
    try:
        return consume(iterator, seconds)
    finally:
        iterator._shutdown_workers()  # type: ignore[attr-defined]


def bare(batches: Batches, workers: int, seconds: float) -> Measured:
    """Processes that decode on their own and hand nothing over."""
    context = multiprocessing.get_context("fork")
    counts, gate = context.SimpleQueue(), context.Barrier(workers)
    processes = [context.Process(target=_decode, args=(batches, seconds, gate, counts)) for _ in range(workers)]
    for process in processes:
        process.start()
    found = [counts.get() for _ in processes]
    for process in processes:
        process.join()
    images, walls, cpus, actives = (sum(column) for column in zip(*found, strict=True))
    return Measured(images, walls / workers, cpus, actives)


def _decode(batches: Batches, seconds: float, gate: Any, counts: Any) -> None:
    torch.set_num_threads(1)
    keys = keys_of(len(batches.source))
    batches.batch(next(keys))
    gate.wait()
    count, start, before = 0, time.perf_counter(), times_of(os.getpid())
    while (wall := time.perf_counter() - start) < seconds:
        batches.batch(next(keys))
        count += BATCH
    run, ready = (b - a for a, b in zip(before, times_of(os.getpid()), strict=True))
    counts.put((count, wall, run, run + ready))


def shares(found: Measured, one: Measured, workers: int, cores: int) -> tuple[float, float]:
    """(wall, unshared) of the docstring above."""
    wall = (found.images / found.wall) / (cores * one.images / one.wall)
    per_image = (one.cpu / one.images) / (found.cpu / found.images)
    return wall, per_image * min(1.0, found.active / found.wall / min(workers, cores))


def tell(rounds: list[dict[str, tuple[float, float]]], sides: list[str]) -> None:
    """Print the table and the ratios of the two loaders."""
    print("| side | wall, median (least to most) | unshared |\n|---|---|---|")
    for name in sides:
        cells = []
        for column in (0, 1):
            values = sorted(each[name][column] for each in rounds)
            cells.append(f"{statistics.median(values):.0%} ({values[0]:.0%} to {values[-1]:.0%})")
        print(f"| {name} | {' | '.join(cells)} |")
    ratios = sorted(each["ring"][1] / each["torch's DataLoader"][1] for each in rounds)
    walls = sorted(each["ring"][0] / each["torch's DataLoader"][0] for each in rounds)
    print(f"ring / DataLoader: wall {statistics.median(walls):.2f} ({walls[0]:.2f} to {walls[-1]:.2f}), ", end="")
    print(f"unshared {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--photographs", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--workers", type=int, default=cores)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sides: dict[str, Callable[[Batches, int, float], Measured]] = {
        "ring": ring,
        "torch's DataLoader": dataloader,
        "bare processes": bare,
    }
    with TemporaryDirectory() as folder:
        root = Path(folder) / "train/one"
        root.mkdir(parents=True)
        write_photographs(root, options.photographs)
        source = FolderSource(root.parent)
        source.cache_left = 0  # or the second round would decode nothing
        batches = Batches(source=source, transform=inception, side=SIDE, seed=0, replaces=True)
        rounds: list[dict[str, tuple[float, float]]] = []
        rates: list[float] = []
        for number in range(options.rounds):
            one = bare(batches, 1, options.seconds)
            names = list(sides)[number % 3 :] + list(sides)[: number % 3]
            found = {name: sides[name](batches, options.workers, options.seconds) for name in names}
            rounds.append({name: shares(each, one, options.workers, cores) for name, each in found.items()})
            rates.append(one.images / one.cpu)
    print(f"{cores} cores, {options.workers} processes, {options.rounds} rounds of {options.seconds:g} s; ", end="")
    print(f"one core alone: {statistics.median(rates):.0f} images a second of CPU")
    tell(rounds, list(sides))


if __name__ == "__main__":
    main()
