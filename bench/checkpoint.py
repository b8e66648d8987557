# SPDX-License-Identifier: Apache-2.0
"""How long a checkpoint of a ViT-B/16 holds up training, and what its write costs the steps beside it.

python bench/checkpoint.py [--rounds 10] [--model ViT-B_16] [--folder FOLDER] [--step-seconds 0.25]

Each round does, in turning order: a copy of the state into memory that exists; a save as training does it (until it
returns); the save as it was before there was a thread (until it is written). Then it takes training steps of the tiny
model without and with a write beside them. Prints medians, ratios and their spread (quartiles). --step-seconds is the
length of a step of the run that the share is stated for; a checkpoint comes every 1,000 steps by default.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from train_step import make_step

from vit.config import Config
from vit.model.transformer import create_model
from vit.run.checkpoint import Tensors, save_checkpoint
from vit.run.folder import RunFolder
from vit.run.saver import Saver
from vit.run.snapshot import Snapshot, on_cpu
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks

STEPS_BETWEEN = Config().eval_every


def state_of(model_type: str) -> Tensors:
    """Weights and momenta in the sizes of the model, as SGD has them."""
    model = create_model(model_type, 224)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def resident_mib() -> float:
    """Memory of this process at this moment."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 2**20


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float], unit: float = 1.0) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle * unit:.3g} ({low * unit:.3g} to {high * unit:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--model", default="ViT-B_16")
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    parser.add_argument("--step-seconds", type=float, default=0.25)
    options = parser.parse_args()
    tensors = state_of(options.model)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = RunFolder(Path(place, "run"))
        folder.acquire()
        folder.make_checkpoints()
        measure(folder, tensors, options)
        folder.release()


def measure(folder: RunFolder, tensors: Tensors, options: argparse.Namespace) -> None:
    """Print the table."""
    before = resident_mib()
    saver = Saver(folder, Device(Ranks()), keep_checkpoints=2)
    saver.prepare(tensors)
    saver.finish()
    grown = resident_mib() - before
    existing = Snapshot(Device(Ranks()))
    existing.take(tensors)
    found: dict[str, list[float]] = {"copy": [], "stall": [], "write": [], "waiting": []}
    numbers = iter(range(1, 10**6))

    def state() -> dict[str, Any]:
        return {"step": next(numbers), "best": None}

    def save_and_wait() -> None:
        save_checkpoint(folder.checkpoints, on_cpu(tensors), state(), confirm=folder.verify)

    def save() -> None:
        started = time.perf_counter()
        saver.save(tensors, state())
        found["stall"].append(time.perf_counter() - started)
        saver.finish()
        found["write"].append(time.perf_counter() - started)

    sides = [lambda: found["copy"].append(seconds(lambda: existing.take(tensors))), save]
    sides.append(lambda: found["waiting"].append(seconds(save_and_wait)))
    for number in range(options.rounds):
        for side in sides[number % 3 :] + sides[: number % 3]:
            side()
    ratios = [stall / copy for stall, copy in zip(found["stall"], found["copy"], strict=True)]
    share = statistics.median(found["stall"]) / (STEPS_BETWEEN * options.step_seconds)
    print(f"{options.model}, {sum(t.nbytes for t in _tensors(tensors)) / 2**20:.0f} MiB, {options.rounds} rounds")
    print(f"one copy into existing memory: {spread(found['copy'], 1000)} ms")
    print(f"a save holds up training for:  {spread(found['stall'], 1000)} ms, {spread(ratios)} copies")
    print(f"before (all of the write):     {spread(found['waiting'], 1000)} ms")
    print(f"written and verified after:    {spread(found['write'], 1000)} ms")
    print(f"share of a run, a save each {STEPS_BETWEEN} steps of {options.step_seconds} s: {100 * share:.3f} %")
    print(f"host memory of the copy: {grown:.0f} MiB")
    steps_beside(saver, tensors, state)


def _tensors(content: Any) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [tensor for part in parts for tensor in _tensors(part)]


def steps_beside(saver: Saver, tensors: Tensors, state: Callable[[], dict[str, Any]]) -> None:
    """Print how much longer steps are while a checkpoint is written."""
    torch.set_num_threads(1)
    step = make_step("ours", Config(model_type="tiny", img_size=32), 16)
    step()
    quiet: list[float] = []
    beside: list[float] = []
    for _ in range(5):
        quiet += [seconds(step) for _ in range(50)]
        saver.save(tensors, state())
        while any(thread.name == "checkpoint" and thread.is_alive() for thread in threading.enumerate()):
            beside.append(seconds(step))
        saver.finish()
    ratio = statistics.median(beside) / statistics.median(quiet)
    print(f"a step: {spread(quiet, 1000)} ms, {spread(beside, 1000)} ms beside a write: {ratio:.2f} times")


if __name__ == "__main__":
    main()
