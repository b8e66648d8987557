# SPDX-License-Identifier: Apache-2.0
"""What the heartbeat costs: training steps with and without it, interleaved; prints the ratio and the time of a change.

python bench/heartbeat.py [--pairs 200] [--batch 2] [--threads 1]

A pair is one step of the loop with the heartbeat in a mapped file and one without, in turning order; the model is the
smallest one, so that a step is short and the share of the heartbeat large.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from train_step import make_step

from vit.config import Config
from vit.run import phases


def seconds_of(step: Callable[[], None], *, beating: bool, own: phases.Phases | None) -> float:
    """CPU time of one step, as the loop does it; other programs of the machine lengthen it least."""
    phases._mine = own if beating else None
    started = time.thread_time()
    step()
    phases.stepped(1)
    return time.thread_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    step = make_step("ours", Config(model_type="tiny", img_size=32), options.batch)
    with tempfile.TemporaryDirectory() as state:
        phases.start({"MPIKIT_STATE": state})
        own = phases._mine
        step()
        measure(step, own, options.pairs)
        phases._mine = own
        started = time.thread_time()
        for _ in range(100_000):
            phases.enter("data")
        print(f"one change of the phase: {(time.thread_time() - started) * 10:.2f} us")


def measure(step: Callable[[], None], own: phases.Phases | None, num_pairs: int) -> None:
    """Print the ratio of the medians, and that of the quickest steps."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(num_pairs):
        for beating in (True, False) if number % 2 else (False, True):
            found[beating].append(seconds_of(step, beating=beating, own=own))
    with_it, without = (statistics.median(found[beating]) for beating in (True, False))
    quickest = min(found[True]) / min(found[False])
    print(
        f"step {without * 1000:.2f} ms without, {with_it * 1000:.2f} ms with the heartbeat: ratio of the medians "
        f"{with_it / without:.3f}, of the quickest {quickest:.3f} ({num_pairs} pairs)"
    )


if __name__ == "__main__":
    main()
