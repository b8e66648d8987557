# SPDX-License-Identifier: Apache-2.0
"""Our training step against timm's model in a plain loop, interleaved; prints ratios with their spread.

python bench/train_step.py [--model ViT-B_16] [--sizes 224 384] [--precisions fp32 bf16] [--pairs 10] [--batch 2]
                           [--threads 1]

Both sides have the same weights, images, GELU, SGD with momentum and clipping by global norm; float32, then bfloat16
autocast, on the CPU. `ours` is the loop's own step (vit.training.loop.take_step: micro-batches, rate, meter) with its
batch at
hand; `timm` is forward, backward, clip, step; `model` is our model in that plain loop, so ours / model is what the loop
costs. Memory is the largest resident size of a fresh process for each side. A CPU without AVX-512 or AMX multiplies
bfloat16 matrices some 200 times slower than float32 ones: give it a small image.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from vit.config import Config
from vit.data.batches import Batch
from vit.model.transformer import create_model
from vit.runtime.device import Device
from vit.runtime.distributed import Group
from vit.runtime.ranks import Ranks
from vit.training.loop import take_step
from vit.training.meter import Meter
from vit.training.optimizer import create_optimizer
from vit.training.state import Session

TIMM = {"ViT-B_16": "vit_base_patch16_224", "ViT-B_32": "vit_base_patch32_224", "ViT-S_16": "vit_small_patch16_224"}
SIDES = ("ours", "model", "timm")
NUM_CLASSES = 1000


class Cost(NamedTuple):
    """Of one step."""

    wall_seconds: float
    cpu_seconds: float


def plain_step(model: torch.nn.Module, config: Config, batch: Batch) -> Callable[[], None]:
    """Forward, backward, clip and SGD, as anybody writes it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    images = (batch.images.permute(0, 3, 1, 2).contiguous().float() - 127.5) / 127.5

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.autocast):
            loss = F.cross_entropy(model(images).float(), batch.labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(model: torch.nn.Module, config: Config, batch: Batch) -> Callable[[], None]:
    """The training loop's own step on one rank."""
    device = Device(Ranks())
    session: Any = Session.__new__(Session)  # a step reads these fields only
    session.config, session.device, session.group = config, device, Group(Ranks(), device, timeout_seconds=60)
    session.model = session.parallel = model
    session.optimizer, session.average, session.step = create_optimizer(model, config, device), None, 0
    session.meter = Meter(device, flops_per_image=1, peak_tflops=None)
    session.damage = type("Silent", (), {"tell": lambda *_: None})()

    def batches() -> Iterator[Batch]:
        while True:
            yield batch

    endless = batches()
    return lambda: take_step(session, endless, 0.003)


def make_step(side: str, config: Config, num_images: int) -> Callable[[], None]:
    """A function that does one update of a model with seeded weights on seeded images."""
    torch.manual_seed(0)
    size = config.image_size
    images = torch.randint(0, 256, (num_images, size, size, 3), dtype=torch.uint8)
    batch = Batch(images, torch.randint(0, NUM_CLASSES, (num_images,)))
    ours = create_model(config.model_type, size, NUM_CLASSES)
    if side == "ours":
        return our_step(ours.train(), config, batch)
    if side == "model":
        return plain_step(ours.train(), config, batch)
    import timm

    theirs = timm.create_model(TIMM[config.model_type], img_size=size, num_classes=NUM_CLASSES, act_layer="gelu_tanh")
    theirs.load_state_dict(ours.state_dict())
    return plain_step(theirs.train(), config, batch)


def measure(config: Config, num_images: int, num_pairs: int) -> None:
    """Print one line: medians and ratios of `num_pairs` rounds, each side once a round, the order turning."""
    steps = {side: make_step(side, config, num_images) for side in SIDES}
    for step in steps.values():
        step()
    rounds: list[dict[str, Cost]] = []
    for number in range(num_pairs):
        order = SIDES[number % 3 :] + SIDES[: number % 3]
        rounds.append({side: cost(steps[side]) for side in order})
    kind = "bf16" if config.autocast else "fp32"
    medians = ", ".join(f"{side} {statistics.median(r[side].wall_seconds for r in rounds):.3f} s" for side in SIDES)
    print(f"{config.model_type} {config.image_size} px {kind}, {num_images} images, {num_pairs} rounds: {medians}")
    for clock in ("wall_seconds", "cpu_seconds"):
        print(f"  {clock}, timm / ours: {ratios(rounds, clock, 'timm', 'ours')}")
        print(f"  {clock}, loop (ours / model): {ratios(rounds, clock, 'ours', 'model')}", flush=True)


def cost(step: Callable[[], None]) -> Cost:
    """What one step takes by the clock on the wall and of this process's CPU time, which others do not lengthen."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def ratios(rounds: list[dict[str, Cost]], clock: str, over: str, under: str) -> str:
    """Median and spread of the rounds' ratios, and the ratio of the two quickest steps, which others slowed least."""
    upper, lower = ([getattr(r[side], clock) for r in rounds] for side in (over, under))
    found = [a / b for a, b in zip(upper, lower, strict=True)]
    spread = f"median {statistics.median(found):.3f}, from {min(found):.3f} to {max(found):.3f}"
    return f"{spread}; of the quickest {min(upper) / min(lower):.3f}"


def peak_gib(side: str, config: Config, num_images: int) -> float:
    """Largest resident size of a fresh process that does two steps."""
    flags = ["--model", config.model_type, "--sizes", str(config.image_size), "--batch", str(num_images)]
    command = [sys.executable, __file__, "--memory-of", side, *flags, *(["--bf16"] if config.autocast else [])]
    done = subprocess.run(command, text=True, capture_output=True, check=True, env={**os.environ})
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="ViT-B_16", choices=sorted(TIMM))
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 384])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--threads", type=int, help="of torch; on a machine that others use, 1 gives a far narrower spread"
    )
    parser.add_argument("--memory-of", choices=SIDES)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for size in options.sizes:
        if options.memory_of:
            config = Config(model_type=options.model, img_size=size, autocast=options.bf16)
            step = make_step(options.memory_of, config, options.batch)
            step(), step()
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
            continue
        for precision in options.precisions:
            config = Config(model_type=options.model, img_size=size, autocast=precision == "bf16")
            measure(config, options.batch, options.pairs)
            memory = {side: peak_gib(side, config, options.batch) for side in ("ours", "timm")}
            ratio = memory["ours"] / memory["timm"]
            print(
                f"  memory: ours {memory['ours']:.2f} GiB, timm {memory['timm']:.2f} GiB, ratio {ratio:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
