# SPDX-License-Identifier: Apache-2.0
"""What happened between two metric lines: sums on the device, read only when a line or a checkpoint needs them."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from vit.errors import NotFiniteError
from vit.run.metrics import MetricValue
from vit.runtime.device import Device
from vit.runtime.distributed import Group


class Meter:
    """Loss, gradient norm and time of the interval's steps."""

    def __init__(self, device: Device, *, flops_per_image: int, peak_tflops: float | None) -> None:
        self.device, self.flops_per_image, self.peak_tflops = device, flops_per_image, peak_tflops
        self.save_seconds: float | None = None
        self.loss_sum = torch.zeros((), device=device.torch_device)
        self.norm_sum = torch.zeros((), device=device.torch_device)
        self.num_steps = 0
        self.num_damaged = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Restart the timer; the sums stay."""
        self.num_timed, self.data_seconds, self.away_seconds = 0, 0.0, 0.0
        self.started = time.perf_counter()

    def add(self, loss: Tensor, norm: Tensor, *, data_seconds: float, num_damaged: int = 0) -> None:
        """Add one step; its loss and gradient norm stay on the device."""
        self.num_damaged += num_damaged
        self.loss_sum += loss
        self.norm_sum += norm
        self.num_steps += 1
        self.num_timed += 1
        self.data_seconds += data_seconds

    def add_save(self, seconds: float) -> None:
        """Record a checkpoint that was written between two steps; its time is not part of a step."""
        self.add_away(seconds)
        self.save_seconds = seconds

    def add_away(self, seconds: float) -> None:
        """Leave out time between two steps that belongs to neither."""
        self.away_seconds += seconds

    def read(self, group: Group, *, step: int, global_batch: int) -> dict[str, MetricValue]:
        """Values of the interval that ends now, which starts a new one. Raises NotFiniteError on all ranks."""
        loss, norm = self._means(group, step)  # waits for the device
        damaged = group.sum([float(self.num_damaged)])[0]
        seconds = (time.perf_counter() - self.started - self.away_seconds) / self.num_timed
        tflops = self.flops_per_image * global_batch / group.world_size / seconds / 1e12
        values: dict[str, MetricValue] = {
            "loss": loss,
            "gradient_norm": norm,
            "damaged_images": round(damaged),
            "images_per_second": global_batch / seconds,
            "step_seconds": seconds,
            "data_seconds": self.data_seconds / self.num_timed,
            "save_seconds": self.save_seconds,
            "tflop_per_second": tflops,
            "mfu_percent": None if self.peak_tflops is None else 100 * tflops / self.peak_tflops,
            "peak_memory_gib": self.device.peak_memory_gib(),
        }
        self.loss_sum.zero_()
        self.norm_sum.zero_()
        self.num_steps = self.num_damaged = 0
        self.save_seconds = None
        return values

    def state(self, group: Group, step: int) -> dict[str, Any] | None:
        """Return the sums of an interval that a checkpoint cuts; None between intervals. Raises NotFiniteError."""
        if self.num_steps == 0:
            return None
        self._means(group, step)
        return {
            "num_steps": self.num_steps,
            "norm_sum": self.norm_sum.item(),
            "loss_sums": group.gather(self.loss_sum.item()),
            "num_damaged": round(group.sum([float(self.num_damaged)])[0]),
        }

    def restore(self, state: dict[str, Any] | None, group: Group) -> None:
        """Continue with the sums of `state`; with another number of ranks rank 0 carries all of the loss."""
        if state is None:
            return
        sums = state["loss_sums"]
        if len(sums) != group.world_size:
            sums = [sum(sums) / len(sums) * group.world_size] + [0.0] * (group.world_size - 1)
        self.loss_sum.fill_(sums[group.rank])
        self.norm_sum.fill_(state["norm_sum"])
        self.num_steps = state["num_steps"]
        self.num_damaged = state["num_damaged"] if group.rank == 0 else 0

    def _means(self, group: Group, step: int) -> tuple[float, float]:
        """(loss, gradient norm) over the interval and all ranks; the norm is the same on each."""
        sums = group.sum([self.loss_sum.item(), self.norm_sum.item()])
        loss, norm = (value / group.world_size / self.num_steps for value in sums)
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                what = f"{name} became {value} in the {self.num_steps} steps up to step {step}"
                error = NotFiniteError("training", what, "lower --learning_rate or raise --warmup_steps")
                error.shared = True
                raise error
        return loss, norm


PEAK_TFLOPS: tuple[tuple[str, float], ...] = (
    # A part of the name that the device gives, and TFLOP/s from the vendor's data sheet. First match wins.
    ("GAUDI3", 1835.0),  # Intel Gaudi 3 white paper, MME BF16
    ("GAUDI2", 432.0),  # Habana Gaudi2 white paper, MME BF16
    ("B200", 2250.0),  # NVIDIA Blackwell data sheet
    ("H200", 989.4),  # NVIDIA H200 data sheet
    ("H100 PCIE", 756.5),  # NVIDIA H100 data sheet, PCIe
    ("H100", 989.4),  # NVIDIA H100 data sheet, SXM
    ("A100", 312.0),  # NVIDIA A100 data sheet
    ("L40S", 362.05),  # NVIDIA L40S data sheet
)
"""First-generation Gaudi is not here: no official figure for it was found."""


def known_peak(device_name: str) -> float | None:
    """TFLOP/s of one device of that name in bfloat16, None where it is not known."""
    name = device_name.upper()
    return next((peak for part, peak in PEAK_TFLOPS if part in name), None)
