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
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
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


NAMES = {
    "new": "first batch of an evaluation, new processes:",
    "kept": f"first batch of an evaluation, kept, {LEAD_STEPS} steps ahead:",
    "steady": "training batch in the steady state:",
    "after new": "training batch after an evaluation, new processes:",
    "after kept": "training batch after an evaluation, kept:",
    "start": f"first training batch, {LOAD_SECONDS:.0f} s after the loader's start:",
}


def keys_of(num_images: int) -> Iterator[list[Key]]:
    """Batches without end."""
    for start in itertools.count(0, SIZE):
        yield [(start // num_images, (start + place) % num_images) for place in range(SIZE)]


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


class Bench:
    """A training loader that goes on, a kept evaluation loader, and the seconds that batches took."""

    def __init__(self, batches: Batches, workers: int, step_seconds: float) -> None:
        self.batches, self.workers, self.step_seconds = batches, workers, step_seconds
        self.eval_keys = list(itertools.islice(keys_of(len(batches.source)), NUM_BATCHES))
        self.found: dict[str, list[float]] = {name: [] for name in NAMES}
        self.kept, train = self.loader(), self.loader()
        train.start(keys_of(len(batches.source)))
        self.steps = train.read()

    def loader(self) -> Loader:
        return Loader(self.batches, Device(Ranks()), num_workers=self.workers, read_timeout_seconds=600)

    def step(self) -> None:
        time.sleep(self.step_seconds)
        self.found["steady"].append(taken(self.steps))

    def evaluate(self, side: str) -> None:
        used = self.kept if side == "kept" else self.loader()
        if side == "kept":
            used.start(self.eval_keys)
        for _ in range(LEAD_STEPS):
            self.step()
        started = time.perf_counter()
        if side == "new":
            used.start(self.eval_keys)
        images = used.read()
        next(images)
        self.found[side].append(time.perf_counter() - started)
        for _ in images:
            pass
        if side == "new":
            used.close()
        self.found[f"after {side}"].append(taken(self.steps))

    def start(self) -> None:
        resumed = self.loader()
        resumed.start(itertools.islice(keys_of(len(self.batches.source)), 8))
        time.sleep(LOAD_SECONDS)
        self.found["start"].append(taken(resumed.read()))
        resumed.close()


def measure(batches: Batches, options: argparse.Namespace) -> None:
    """Print the table."""
    bench = Bench(batches, options.workers, options.step_seconds)
    bench.evaluate("kept")
    for times in bench.found.values():
        times.clear()
    for number in range(options.rounds):
        for side in ("new", "kept") if number % 2 else ("kept", "new"):
            bench.evaluate(side)
        bench.start()
    print(f"{options.rounds} rounds, batches of {SIZE} images, {options.workers} process(es)")
    for name, words in NAMES.items():
        print(f"{words:62}{spread(bench.found[name])}")


if __name__ == "__main__":
    main()
