# SPDX-License-Identifier: Apache-2.0
"""Batches in the order of their keys: decoded ahead by processes, or, where there are none, when they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

import torch

from vit.data.batches import Batch, Batches
from vit.data.sampler import Key
from vit.data.shared_memory import Layout, Ring
from vit.data.workers import Done, Workers
from vit.runtime.device import Device


def open_loader(
    batches: Batches, keys: Iterable[list[Key]], device: Device, *, num_workers: int, read_timeout_seconds: float
) -> Iterator[Batch]:
    """Yield the batches; each may be used until the next one is asked for. Raises DataError, ConfigError.

    Close it, or use it up, to end its processes.
    """
    if num_workers == 0:
        yield from map(batches.batch, keys)
        return
    rest = iter(keys)
    first = next(rest, None)
    if first is None:
        return
    workers = Workers(batches, layout_of(batches, len(first), num_workers), device.worker_context, read_timeout_seconds)
    try:
        with device.locked(torch.from_numpy(workers.ring.memory)):
            yield from _in_order(workers, chain([first], rest))
    finally:
        workers.close()


def layout_of(batches: Batches, batch_size: int, num_workers: int) -> Layout:
    """Return the ring that such batches need."""
    return Layout(batch_size=batch_size, side=batches.side, kind=batches.kind, num_workers=num_workers)


def _in_order(workers: Workers, keys: Iterator[list[Key]]) -> Iterator[Batch]:
    """Keep every free slot of the ring in work, and give the batches in the order of their keys."""
    free = deque(range(workers.ring.layout.num_slots))
    ahead: deque[_Slot] = deque()
    while True:
        while free and (wanted := next(keys, None)) is not None:
            ahead.append(_Slot(workers, free.popleft(), wanted))
        if not ahead:
            return
        while ahead[0].missing:
            for done in workers.wait():
                next(slot for slot in ahead if slot.number == done.slot).add(done)
        slot = ahead.popleft()
        yield slot.batch(workers.ring)
        free.append(slot.number)


class _Slot:
    """A batch in the making."""

    def __init__(self, workers: Workers, number: int, keys: list[Key]) -> None:
        self.number, self.size = number, len(keys)
        self.done: list[Done] = []
        workers.ring.put_keys(number, keys)
        piece = workers.ring.layout.piece
        starts = range(0, self.size, piece)
        self.missing = len(starts)
        for start in starts:
            workers.ask(number, start, min(start + piece, self.size))

    def add(self, done: Done) -> None:
        """Note that a piece is finished."""
        self.done.append(done)
        self.missing -= 1

    def batch(self, ring: Ring) -> Batch:
        """Return the batch, in the ring's memory. Raises the error of its first piece that has one."""
        pieces = sorted(self.done, key=lambda done: done.start)
        for done in pieces:
            if isinstance(done.fault, str):
                raise RuntimeError(f"in a loader process:\n{done.fault}")
            if done.fault is not None:
                raise done.fault
        images, labels = ring.images[self.number, : self.size], ring.labels[self.number, : self.size]
        damaged = tuple(text for done in pieces for text in done.findings.damaged)
        remarks = tuple(text for done in pieces for text in done.findings.remarks)
        return Batch(torch.from_numpy(images), torch.from_numpy(labels), damaged, remarks)
