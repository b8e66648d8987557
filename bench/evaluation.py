# SPDX-License-Identifier: Apache-2.0
"""How long an evaluation waits for its first images, and training for the first ones after it or after a start.

python bench/evaluation.py [--rounds 10] [--photographs 48] [--workers 1] [--step-seconds 0.2]

The images are those of bench/input.py, 384 px, batches of 16. Each round does an evaluation of four batches in turning
order with `new` processes, as before they were kept, and with `kept` ones that begin three steps ahead; a step is a
pause of --step-seconds, as of a host that waits for its card. After each evaluation a training batch is taken, and once
a round a loader starts while a pause of two seconds stands for loading weights. Prints medians and quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from loader import keys_of
from photographs import SIDE, write_photographs

from vit.data.batches import Batches
from vit.data.datasets import FolderSource
from vit.data.loader import Loader
from vit.data.sampler import Key
from vit.images.transforms import inception
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks
from vit.training.loop import LEAD_STEPS

SIZE, NUM_BATCHES, LOAD_SECONDS = 16, 4, 2.0


def eval_keys(num_images: int) -> list[list[Key]]:
    return [[(0, (SIZE * part + place) % num_images) for place in range(SIZE)] for part in range(NUM_BATCHES)]


def taken(batches: Iterator[Any]) -> float:
    """Seconds that the next batch takes."""
    started = time.perf_counter()
    next(batches)
    return time.perf_counter() - started


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle * 1000:.1f} ms ({low * 1000:.1f} to {high * 1000:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--photographs", type=int, default=48)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--step-seconds", type=float, default=0.2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        root = Path(folder) / "train/one"
        root.mkdir(parents=True)
        write_photographs(root, options.photographs)
        source = FolderSource(root.parent)
        source.cache_left = 0
        measure(Batches(source=source, transform=inception, side=SIDE, seed=0, replaces=True), options)


def measure(batches: Batches, options: argparse.Namespace) -> None:
    """Print the table."""

    def loader() -> Loader:
        return Loader(batches, Device(Ranks()), num_workers=options.workers, read_timeout_seconds=600)

    train = loader()
    train.start(keys[:SIZE] for keys in keys_of(len(batches.source)))
    steps = train.read()
    kept = loader()
    found: dict[str, list[float]] = {name: [] for name in ("new", "kept", "steady", "after new", "after kept", "start")}

    def step() -> None:
        time.sleep(options.step_seconds)
        found["steady"].append(taken(steps))

    def evaluate(side: str) -> None:
        used = kept if side == "kept" else loader()
        for left in range(LEAD_STEPS, 0, -1):
            if side == "kept" and left == LEAD_STEPS:
                used.start(eval_keys(len(batches.source)))
            step()
        started = time.perf_counter()
        if side == "new":
            used.start(eval_keys(len(batches.source)))
        images = used.read()
        next(images)
        found[side].append(time.perf_counter() - started)
        for _ in images:
            pass
        if side == "new":
            used.close()
        found[f"after {side}"].append(taken(steps))

    evaluate("kept")
    for times in found.values():
        times.clear()
    for number in range(options.rounds):
        for side in ("new", "kept") if number % 2 else ("kept", "new"):
            evaluate(side)
        resumed = loader()
        resumed.start([keys[:SIZE] for _, keys in zip(range(8), keys_of(len(batches.source)), strict=False)])
        time.sleep(LOAD_SECONDS)
        found["start"].append(taken(resumed.read()))
        resumed.close()
    print(f"{options.rounds} rounds, batches of {SIZE} images, {options.workers} process(es)")
    print(f"first batch of an evaluation, new processes:           {spread(found['new'])}")
    print(f"first batch of an evaluation, kept, {LEAD_STEPS} steps ahead:     {spread(found['kept'])}")
    print(f"training batch in the steady state:                    {spread(found['steady'])}")
    print(f"training batch after an evaluation (new, kept):        {spread(found['after new'])}, ", end="")
    print(spread(found["after kept"]))
    print(f"first training batch, {LOAD_SECONDS:.0f} s after the loader's start:     {spread(found['start'])}")


if __name__ == "__main__":
    main()
