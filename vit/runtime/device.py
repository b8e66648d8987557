# SPDX-License-Identifier: Apache-2.0
"""One small interface over HPU, CUDA and CPU."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vit.runtime.cpus import cpus_per_rank, usable_cpus
from vit.runtime.ranks import Ranks
from vit.variants import AttentionKind

logger = logging.getLogger(__name__)


class Device:
    """What the training loop needs to know of an accelerator; this base is the CPU."""

    kind = "cpu"
    backend = "gloo"
    attention: AttentionKind = "fused"
    worker_context = "fork"
    """How multiprocessing starts the processes that decode images."""

    def __init__(self, ranks: Ranks) -> None:
        self.torch_device = torch.device("cpu")
        if "OMP_NUM_THREADS" not in os.environ:  # else torch takes every core in every rank
            torch.set_num_threads(cpus_per_rank(ranks.local_size))

    @classmethod
    def count(cls) -> int:
        """Devices of this kind on this machine (CPU: usable CPUs)."""
        return usable_cpus()

    def name(self) -> str:
        """Return what the device calls itself."""
        return "CPU"

    def describe(self) -> str:
        """Return the device in words, for the log."""
        number = torch.get_num_threads()
        return f"CPU with {number} {'thread' if number == 1 else 'threads'} per rank"

    def prepare_distributed(self) -> None:
        """Whatever the backend needs before the process group."""

    def autocast(self, enabled: bool) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 around forward and loss, or nothing."""
        return torch.autocast(self.torch_device.type, torch.bfloat16) if enabled else contextlib.nullcontext()

    def upload(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the device; the host's memory may be written over when the next batch is asked for."""
        return tensor

    def locked(self, memory: Tensor) -> contextlib.AbstractContextManager[None]:
        """Keep the host's memory where the device can read it directly, where that makes a difference."""
        return contextlib.nullcontext()

    def enter_thread(self) -> None:
        """Prepare a thread other than the main one to use the device."""

    def copy_to_host(self, pairs: list[tuple[Tensor, Tensor]]) -> Callable[[], None]:
        """Copy the second tensor of each pair to the first one, in host memory; return what waits for the copies.

        Before one of these tensors changes, call `hold_changes`.
        """
        for place, tensor in pairs:
            place.copy_(tensor)
        return lambda: None

    def hold_changes(self) -> None:
        """Let all later work of the device wait for `copy_to_host`; the host does not wait."""

    def start_work(self) -> None:
        """Start to measure work in which no other rank is waited for."""
        self.work_started = time.perf_counter()

    def end_work(self) -> float:
        """Return the seconds of work that is known to be done since the last call: here the host's own time."""
        return time.perf_counter() - self.work_started

    def mark_step(self) -> None:
        """End of a graph in HPU's lazy mode; nothing elsewhere."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""

    def peak_memory_gib(self) -> float | None:
        """Most device memory held so far, None if unknown."""
        return None

    def manual_seed(self, seed: int) -> None:
        """Seed the generators that dropout draws from."""
        torch.manual_seed(seed)

    def compile(self, model: nn.Module) -> None:
        """Have torch compile the model's forward and backward pass when they first run."""
        model.compile()

    def ddp_options(self) -> dict[str, Any]:
        """Keyword arguments of DistributedDataParallel; the models have no buffers to broadcast."""
        return {"gradient_as_bucket_view": True}

    def sgd(self, groups: list[dict[str, Any]], *, learning_rate: float, momentum: float) -> torch.optim.Optimizer:
        """SGD with momentum, fused where the device has it."""
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)

    def adamw(self, groups: list[dict[str, Any]], *, learning_rate: float) -> torch.optim.Optimizer:
        """AdamW with torch's betas and epsilon, fused where the device has it."""
        return torch.optim.AdamW(groups, lr=learning_rate)

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Clip gradients in place; returns their global norm before, on the device."""
        return torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)
