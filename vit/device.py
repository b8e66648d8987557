# SPDX-License-Identifier: Apache-2.0
"""One small interface over HPU, CUDA and CPU. `python -m vit.device KIND` prints how many of that kind there are."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vit.cpus import cpus_per_rank, usable_cpus
from vit.errors import ConfigError
from vit.model import AttentionKind
from vit.ranks import Ranks
from vit.terminal import write

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
        """What the device calls itself."""
        return "CPU"

    def describe(self) -> str:
        """The device in words, for the log."""
        return f"CPU with {torch.get_num_threads()} threads a rank"

    def prepare_distributed(self) -> None:
        """Whatever the backend needs before the process group."""

    def autocast(self, enabled: bool) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 around forward and loss, or nothing."""
        return torch.autocast(self.torch_device.type, torch.bfloat16) if enabled else contextlib.nullcontext()

    def upload(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; the host's memory may be written over when the next batch is asked for."""
        return tensor

    def locked(self, memory: Tensor) -> contextlib.AbstractContextManager[None]:
        """Keep the host's memory where the device can read it directly, where that makes a difference."""
        return contextlib.nullcontext()

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


class CudaDevice(Device):
    """An NVIDIA GPU, one per local rank."""

    kind = "cuda"
    backend = "nccl"

    def __init__(self, ranks: Ranks) -> None:
        found = self.count()
        if ranks.local_rank >= found:
            what = f"cuda, but local rank {ranks.local_rank} has no GPU ({found} found)"
            raise ConfigError("--device", what, f"start at most {found} ranks on this node, or use --device cpu")
        self.torch_device = torch.device("cuda", ranks.local_rank)
        torch.cuda.set_device(self.torch_device)
        self.copies = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]  # torch has no types for it

    @classmethod
    def count(cls) -> int:
        """GPUs that torch sees."""
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def name(self) -> str:
        """The GPU's name."""
        return torch.cuda.get_device_name(self.torch_device)

    def describe(self) -> str:
        """The GPU's name and memory."""
        memory = torch.cuda.get_device_properties(self.torch_device).total_memory
        return f"{self.name()} with {memory / 2**30:.0f} GiB"

    def sgd(self, groups: list[dict[str, Any]], *, learning_rate: float, momentum: float) -> torch.optim.Optimizer:
        """SGD in one kernel where this torch has it (2.3)."""
        fused = {"fused": True} if "fused" in inspect.signature(torch.optim.SGD).parameters else {}
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, **fused)

    def adamw(self, groups: list[dict[str, Any]], *, learning_rate: float) -> torch.optim.Optimizer:
        """AdamW in one kernel."""
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)

    def upload(self, tensor: Tensor) -> Tensor:
        """Copied by a stream of its own: the wait for it is not one for the kernels that are still to run."""
        with torch.cuda.stream(self.copies):
            copy = tensor.to(self.torch_device, non_blocking=True)
        self.copies.synchronize()
        copy.record_stream(torch.cuda.current_stream(self.torch_device))
        return copy

    @contextlib.contextmanager
    def locked(self, memory: Tensor) -> Iterator[None]:
        """Page-locked (cudaHostRegister), so that copies from it need no copy before them."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch has no types for it
        code = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
        if code:
            logger.warning("the loader's memory cannot be page-locked (CUDA error %d): copies take longer", code)
            with contextlib.suppress(RuntimeError):  # the next kernel tells of the error once more
                torch.zeros(1, device=self.torch_device)
        try:
            yield
        finally:
            if not code:
                self.copies.synchronize()
                runtime.cudaHostUnregister(memory.data_ptr())

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize(self.torch_device)

    def peak_memory_gib(self) -> float | None:
        """torch.cuda.max_memory_allocated."""
        return torch.cuda.max_memory_allocated(self.torch_device) / 2**30

    def ddp_options(self) -> dict[str, Any]:
        """The GPU as device_ids besides the common options."""
        return {**super().ddp_options(), "device_ids": [self.torch_device.index]}


def device_class(kind: str) -> type[Device]:
    """The class for hpu, cuda or cpu; habana_frameworks is touched for hpu alone."""
    if kind == "hpu":
        from vit.hpu import HpuDevice

        return HpuDevice
    return {"cuda": CudaDevice, "cpu": Device}[kind]


def open_device(kind: str, ranks: Ranks) -> Device:
    """The device of this rank; `auto` takes hpu if its software and a card are there, else cuda, else cpu."""
    if kind == "auto":
        kind = next(name for name in ("hpu", "cuda", "cpu") if name == "cpu" or count_devices(name))
    return device_class(kind)(ranks)


def count_devices(kind: str) -> int:
    """Devices of that kind on this machine; 0 if their software is absent."""
    if kind == "hpu" and importlib.util.find_spec("habana_frameworks") is None:
        return 0
    return device_class(kind).count()


def main(argv: list[str]) -> int:
    """Print the number of devices of argv[0]'s kind as a bare integer."""
    if len(argv) != 1 or argv[0] not in ("hpu", "cuda", "cpu"):
        write(sys.stderr, "usage: python -m vit.device hpu|cuda|cpu\n")
        return 2
    write(sys.stdout, f"{count_devices(argv[0])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
