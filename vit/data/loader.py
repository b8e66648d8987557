# SPDX-License-Identifier: Apache-2.0
"""Batches in the order of their keys: decoded ahead by processes, or, where there are none, when they are asked for."""

from __future__ import annotations

import contextlib
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
    loader = Loader(batches, device, num_workers=num_workers, read_timeout_seconds=read_timeout_seconds)
    yield from loader.read_once(keys)


def layout_of(batches: Batches, batch_size: int, num_workers: int) -> Layout:
    """Return the ring that such batches need."""
    return Layout(batch_size=batch_size, side=batches.side, kind=batches.kind, num_workers=num_workers)


class Loader:
    """Reads several lists of keys, one after the other, with the same processes."""

    def __init__(self, batches: Batches, device: Device, *, num_workers: int, read_timeout_seconds: float) -> None:
        self.batches, self.device = batches, device
        self.num_workers, self.read_timeout_seconds = num_workers, read_timeout_seconds
        self.started = False
        """Whether there are keys whose batches are not read yet."""
        self._keys: Iterator[list[Key]] = iter(())
        self._workers: Workers | None = None
        self._free: deque[int] = deque()
        self._ahead: deque[_Slot] = deque()
        self._open = contextlib.ExitStack()

    def start(self, keys: Iterable[list[Key]]) -> None:
        """Start to decode the first of these batches. No batch may be larger than the very first one.

        The keys before must have been read. Raises ConfigError if the system cannot start the processes.
        """
        assert not self.started, "the keys before have not been read"
        rest = iter(keys)
        first = next(rest, None)
        self.started = True
        self._keys = rest if first is None else chain([first], rest)
        if self.num_workers and first is not None:
            if self._workers is not None and not self._workers.all_alive():
                self.close()  # what ended them, such as a lack of memory, may be over
            if self._workers is None:
                self._workers = self._start_workers(len(first))
            self._decode_ahead(self._workers)

    def read(self) -> Iterator[Batch]:
        """Yield the batches; each may be used until the next one is asked for. Raises DataError."""
        if self._workers is None:
            yield from map(self.batches.batch, self._keys)
        else:
            yield from self._read_ring(self._workers)
        self.started = False

    def read_once(self, keys: Iterable[list[Key]]) -> Iterator[Batch]:
        """Yield the batches of these keys, then end the processes."""
        try:
            self.start(keys)
            yield from self.read()
        finally:
            self.close()

    def close(self) -> None:
        """End the processes."""
        self._workers = None
        self._open.close()

    def _start_workers(self, batch_size: int) -> Workers:
        layout = layout_of(self.batches, batch_size, self.num_workers)
        workers = Workers(self.batches, layout, self.device.worker_context, self.read_timeout_seconds)
        self._open.callback(workers.close)
        self._free, self._ahead = deque(range(layout.num_slots)), deque()
        self._open.enter_context(self.device.locked(torch.from_numpy(workers.ring.memory)))
        return workers

    def _read_ring(self, workers: Workers) -> Iterator[Batch]:
        while True:
            self._decode_ahead(workers)
            if not self._ahead:
                return
            while self._ahead[0].missing:
                for done in workers.wait():
                    next(slot for slot in self._ahead if slot.number == done.slot).add(done)
            slot = self._ahead.popleft()
            yield slot.batch(workers.ring)
            self._free.append(slot.number)

    def _decode_ahead(self, workers: Workers) -> None:
        """Give the processes work for every free slot of the ring."""
        while self._free and (wanted := next(self._keys, None)) is not None:
            self._ahead.append(_Slot(workers, self._free.popleft(), wanted))


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
