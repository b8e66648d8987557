# SPDX-License-Identifier: Apache-2.0
"""A copy of a run's tensors in host memory, so that training goes on while a checkpoint is written."""

from __future__ import annotations

import contextlib
import errno
import mmap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_2 = ("memory.max", "memory.current", "inactive_file")
CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
ALIGNMENT = 64  # bytes: of a cache line, and more than any type of torch needs


class Copier(Protocol):
    """What a copy needs of vit.runtime.device.Device, which documents it."""

    def enter_thread(self) -> None: ...

    def copy_to_host(self, pairs: list[tuple[Tensor, Tensor]]) -> Callable[[], None]: ...

    def locked(self, memory: Tensor) -> AbstractContextManager[None]: ...


class Snapshot:
    """Host memory for nested dicts and lists of tensors: as large as these, allocated once and used again.

    The copies share no storage with each other, so torch.save writes the same bytes as for the originals.
    """

    def __init__(self, device: Copier) -> None:
        self.device = device
        self._layout: list[tuple[torch.dtype, torch.Size, tuple[int, ...]]] = []
        self._places: list[Tensor] = []
        self._open = contextlib.ExitStack()

    def prepare(self, content: Any) -> Callable[[], None]:
        """Return what allocates the memory for this content and touches each page of it; another thread may call it.

        It raises OSError if the system does not provide the memory.
        """
        layout = [(tensor.dtype, tensor.shape, _strides(tensor)) for tensor in _tensors(content)]
        return lambda: self._allocate(layout)

    def take(self, content: Any) -> tuple[Any, Callable[[], None]]:
        """Return a copy of the content, and what waits until the device has filled it.

        The copy is valid until the next call. Call `Device.hold_changes` before the tensors change. Raises OSError as
        `prepare` does.
        """
        tensors = list(_tensors(content))
        if [(tensor.dtype, tensor.shape, _strides(tensor)) for tensor in tensors] != self._layout:
            self.prepare(content)()
        wait = self.device.copy_to_host(list(zip(self._places, tensors, strict=True)))
        places = iter(self._places)
        return _replaced(content, places), wait

    def _allocate(self, layout: list[tuple[torch.dtype, torch.Size, tuple[int, ...]]]) -> None:
        self.device.enter_thread()
        self._open.close()
        self._places, self._layout = [], []
        starts, end = [], 0
        for dtype, shape, _ in layout:
            starts.append(end)
            end += -(-shape.numel() * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        memory = _touched(max(end, 1))
        self._open.enter_context(self.device.locked(torch.frombuffer(memory, dtype=torch.uint8)))
        for start, (dtype, shape, strides) in zip(starts, layout, strict=True):
            if shape.numel():
                place = torch.frombuffer(memory, dtype=dtype, count=shape.numel(), offset=start)
                self._places.append(place.as_strided(shape, strides))
            else:
                self._places.append(torch.empty(shape, dtype=dtype))
        self._layout = layout


def memory_left(root: Path = CGROUP_ROOT) -> int | None:
    """Return how many bytes the container's limit leaves, the page cache not counted; None without a limit."""
    for folder, names in ((root, CGROUP_2), (root / "memory", CGROUP_1)):
        with contextlib.suppress(OSError, ValueError, KeyError):  # "max" is no limit
            limit, used = (int((folder / name).read_text()) for name in names[:2])
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return max(0, limit - used + int(stat[names[2]]))
    return None


def _touched(num_bytes: int) -> mmap.mmap:
    """Return private memory whose pages exist, and which forked loaders do not get: each page would be copied again."""
    left = memory_left()
    if left is not None and num_bytes > left:
        raise OSError(errno.ENOMEM, f"the container has {left >> 20} MiB left, {num_bytes >> 20} MiB are needed")
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in (mmap.MADV_DONTFORK, mmap.MADV_HUGEPAGE):
        with contextlib.suppress(OSError):  # a kernel without it
            memory.madvise(advice)
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 0  # without the interpreter's lock
    return memory


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """Return the strides of a copy of a tensor, which has no gaps."""
    return torch.empty_like(tensor, device="meta").stride()


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested dicts and lists, in their order."""
    if isinstance(content, Tensor):
        yield content.detach()
    elif isinstance(content, (dict, list)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _tensors(part)


def _replaced(content: Any, places: Iterator[Tensor]) -> Any:
    """Return the same nested dicts and lists with the next place instead of each tensor."""
    if isinstance(content, Tensor):
        return next(places)
    if isinstance(content, dict):
        return {key: _replaced(part, places) for key, part in content.items()}
    return [_replaced(part, places) for part in content] if isinstance(content, list) else content


def on_cpu(content: Any) -> Any:
    """Return the same nested dicts and lists with the tensors on the CPU; those that are there are not copied."""
    return _replaced(content, (tensor.cpu() for tensor in _tensors(content)))
