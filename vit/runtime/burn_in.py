# SPDX-License-Identifier: Apache-2.0
"""A test of every rank's device before step 1: matrix products, memory, and sums over all ranks.

All values are small whole numbers, which float32 and bfloat16 hold exactly in any order of summation. So each result is
compared with the right one, whatever the device, and a rank that computes wrongly is found even if there is no other.
Speeds are compared between ranks.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from vit.errors import DeviceError
from vit.runtime.agreement import host_name
from vit.runtime.device import Device
from vit.runtime.distributed import Group, named_faults

logger = logging.getLogger(__name__)

SLOW = 0.7
"""A rank below this share of the median speed is named; as vit.supervise.watchdog.scores."""
MOST_NAMED = 8
SHARES = {"matmul": 0.6, "memory": 0.2, "all-reduce": 0.2}
"""Of the seconds."""
UNITS = {"matmul": "TFLOP/s", "memory": "GB/s"}
FIX = "look at that node's device and driver logs, or exclude the node"


@dataclass(frozen=True, slots=True)
class Work:
    """How much one repetition does: side of the matrices, numbers that are copied, numbers that are summed."""

    side: int
    copied: int
    summed: int


CPU, CARD = Work(1024, 1 << 23, 1 << 21), Work(2048, 1 << 26, 1 << 24)


@dataclass(frozen=True, slots=True)
class Found:
    """What one rank has seen."""

    host: str
    speeds: dict[str, float]
    """Of this rank's own device: TFLOP/s of `matmul`, GB/s of `memory`."""
    wrong: tuple[str, ...]
    """What gave a wrong result."""


def burn_in(seconds: float, device: Device, group: Group) -> None:
    """Test all devices for so long, and log the speeds. Raises DeviceError on every rank if a result is wrong."""
    with torch.inference_mode():
        mine = _examine(seconds, device, group)
    found = group.gather_objects(mine)
    fault, warnings = judge(found)
    if group.rank == 0:
        spans = [f"{name} {_span([one.speeds[name] for one in found])} {unit}" for name, unit in UNITS.items()]
        logger.info("burn-in of %g s on %d ranks: %s", seconds, len(found), ", ".join(spans))
        for warning in warnings:
            logger.warning("%s", warning)
    if fault:
        error = DeviceError("burn-in", fault, FIX)
        error.shared = True
        raise error


def judge(found: Sequence[Found]) -> tuple[str, list[str]]:
    """Return what is wrong, empty if nothing is, and a sentence on each rank that is slow."""
    wrong = [f"rank {rank} on {one.host}: wrong {', '.join(one.wrong)}" for rank, one in enumerate(found) if one.wrong]
    slow = []
    for name, unit in UNITS.items():
        median = statistics.median(one.speeds[name] for one in found)
        slow += [
            f"rank {rank} on {one.host} is slow in the burn-in: {name} {one.speeds[name]:.3g} {unit}, "
            f"{one.speeds[name] / median:.2f} of the median"
            for rank, one in enumerate(found)
            if one.speeds[name] < SLOW * median
        ]
    return _listed(wrong), slow


def _listed(texts: list[str]) -> str:
    more = [f"{len(texts) - MOST_NAMED} more ranks"] if len(texts) > MOST_NAMED else []
    return "; ".join([*texts[:MOST_NAMED], *more])


def _span(speeds: Sequence[float]) -> str:
    low, high = f"{min(speeds):.3g}", f"{max(speeds):.3g}"
    return low if low == high else f"{low} to {high}"


def _examine(seconds: float, device: Device, group: Group) -> Found:
    work = CPU if device.kind == "cpu" else CARD
    matmul, product_right = _matmul(seconds * SHARES["matmul"], device, work.side)
    memory, copy_right = _memory(seconds * SHARES["memory"], device, work.copied)
    sum_right = group.world_size == 1 or _reduce(seconds * SHARES["all-reduce"], device, group, work.summed)
    results = {"matrix product": product_right, "copy in memory": copy_right, "all-reduce": sum_right}
    wrong = tuple(name for name, right in results.items() if not right)
    return Found(host_name(), {"matmul": matmul, "memory": memory}, wrong)


def _repeated(seconds: float, device: Device, work: Callable[[], Any]) -> float:
    """Repeat the work for so long, at least three times. Return the median seconds of one."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        device.mark_step()
        device.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _matmul(seconds: float, device: Device, size: int) -> tuple[float, bool]:
    """Return TFLOP/s, and whether each product was right."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-1, 2, (size, size), generator=generator, dtype=torch.float64) for _ in range(2))
    dtype = torch.float32 if device.kind == "cpu" else torch.bfloat16
    place = device.torch_device
    expected = (left @ right).to(dtype).to(place)
    left, right = left.to(dtype).to(place), right.to(dtype).to(place)
    product = torch.empty_like(expected)
    differing = torch.zeros((), dtype=torch.int64, device=place)

    def work() -> None:
        torch.matmul(left, right, out=product)
        differing.add_((product != expected).sum())

    each = _repeated(seconds, device, work)
    return 2 * size**3 / each / 1e12, int(differing) == 0


def _memory(seconds: float, device: Device, num_floats: int) -> tuple[float, bool]:
    """Return GB/s of reading and writing, and whether the last copy was right."""
    source = torch.arange(num_floats, dtype=torch.float32, device=device.torch_device).remainder_(1 << 20)
    copy = torch.empty_like(source)
    each = _repeated(seconds, device, lambda: copy.copy_(source))
    return 2 * 4 * num_floats / each / 1e9, bool((copy == source).all())


def _reduce(seconds: float, device: Device, group: Group, num_floats: int) -> bool:
    """Sum over all ranks for so long. Return whether each sum was right."""
    expected = group.world_size * (group.world_size + 1) / 2  # exact in float32 up to 5,792 ranks
    right, end = True, time.perf_counter() + seconds
    while group.on_rank0(lambda: time.perf_counter() < end):
        values = torch.full((num_floats,), float(group.rank + 1), device=device.torch_device)
        with named_faults():
            dist.all_reduce(values)
        right = bool((values == expected).all()) and right
    return right
