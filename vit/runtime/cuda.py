# SPDX-License-Identifier: Apache-2.0
"""An NVIDIA GPU."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vit.errors import ConfigError
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks

logger = logging.getLogger(__name__)


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
        self.spans: deque[tuple[Any, Any]] = deque()
        self.copies = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]  # torch has no types for it
        self.saves = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]  # neither here
        self.saved: Any = None

    @classmethod
    def count(cls) -> int:
        """GPUs that torch sees."""
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def name(self) -> str:
        """Return the GPU's name."""
        return torch.cuda.get_device_name(self.torch_device)

    def describe(self) -> str:
        """Return the GPU's name and memory."""
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

    def enter_thread(self) -> None:
        """Select the GPU: a new thread uses the first one, and would create a context there."""
        torch.cuda.set_device(self.torch_device)

    def copy_to_host(self, pairs: list[tuple[Tensor, Tensor]]) -> Callable[[], None]:
        """Copy on a separate stream, in parallel with the next forward and backward passes."""
        self.saves.wait_stream(torch.cuda.current_stream(self.torch_device))
        with torch.cuda.stream(self.saves):
            for place, tensor in pairs:
                place.copy_(tensor, non_blocking=True)
        saved = self.saved = self.saves.record_event()

        def wait() -> None:
            self.enter_thread()
            saved.synchronize()

        return wait

    def hold_changes(self) -> None:
        """Let the current stream wait for the copies."""
        if self.saved is not None:
            torch.cuda.current_stream(self.torch_device).wait_event(self.saved)
            self.saved = None

    @contextlib.contextmanager
    def locked(self, memory: Tensor) -> Iterator[None]:
        """Page-locked (cudaHostRegister), so that copies from it need no copy before them."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch has no types for it
        code = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
        if code:
            logger.warning(
                "memory cannot be page-locked (CUDA error %d): copies between host and GPU take longer", code
            )
            with contextlib.suppress(RuntimeError):  # the next kernel reports the error again
                torch.zeros(1, device=self.torch_device)
        try:
            yield
        finally:
            if not code:
                self.copies.synchronize()
                runtime.cudaHostUnregister(memory.data_ptr())

    def start_work(self) -> None:
        """Start to measure work on the GPU; nothing waits for it."""
        self.span = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it
        self.span.record()

    def end_work(self) -> float:
        """Return the GPU's seconds of the spans that it has finished since the last call."""
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # neither here
        end.record()
        self.spans.append((self.span, end))
        seconds = 0.0
        while self.spans and self.spans[0][1].query():
            first, last = self.spans.popleft()
            seconds += first.elapsed_time(last) / 1000
        return seconds

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize(self.torch_device)

    def peak_memory_gib(self) -> float | None:
        """torch.cuda.max_memory_allocated."""
        return torch.cuda.max_memory_allocated(self.torch_device) / 2**30

    def ddp_options(self) -> dict[str, Any]:
        """Return the GPU as device_ids besides the common options."""
        return {**super().ddp_options(), "device_ids": [self.torch_device.index]}
