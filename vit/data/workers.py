# SPDX-License-Identifier: Apache-2.0
"""Processes that decode images into a ring: pieces of work go out through one pipe, word of them comes back.

Whatever happens to one of them ends in a DataError that names the file it had in hand: it is killed, the file crashes
it, or the storage does not answer. They end with the rank, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import multiprocessing
import os
import selectors
import signal
import struct
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from vit.data.batches import Batches, Findings
from vit.data.datasets import FolderSource
from vit.data.shared_memory import IDLE, Layout, Ring
from vit.data.sources import Array, Source
from vit.errors import ConfigError, DataError, TrainError
from vit.images.pixels import Picture
from vit.runtime.failures import name_failure
from vit.runtime.signals import STOP_SIGNALS

TICKET = struct.Struct("=3I")  # slot, start, stop: so short that no write or read of a pipe is ever a part of one
LOOK_SECONDS = 1.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LAST_WORDS_SECONDS = 5.0  # a process whose pipe is closed has ended, or is about to


@dataclass(frozen=True, slots=True)
class Done:
    """Word of a finished piece of work."""

    slot: int
    start: int
    findings: Findings
    fault: TrainError | str | None
    """What ended it early; a text is the traceback of a bug."""


class WatchedSource:
    """A source that writes down which image it is asked for."""

    def __init__(self, source: Source, reading: Array) -> None:
        self.source, self.reading, self.class_names = source, reading, source.class_names

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> Picture:
        """Return the source's; what is written down stays until the next one, for a part of it may be decoded later."""
        self.reading[:] = self.reading[0] + 1, index
        return self.source.image(index)

    def label(self, index: int) -> int:
        """Return the source's label."""
        return self.source.label(index)

    def where(self, index: int) -> str:
        """Return the source's name of the image."""
        return self.source.where(index)

    def fingerprint(self) -> int:
        """Return the source's fingerprint."""
        return self.source.fingerprint()


def work(number: int, batches: Batches, ring: Ring, tickets: Connection, results: Connection) -> None:
    """Fill pieces of the ring, as process `number`, until the rank ends."""
    _settle()
    reading = ring.reading[number]
    if not batches.replaces and isinstance(batches.source, FolderSource):
        batches.source.cache_left = 0  # an evaluation reads each image once, and these processes stay until the next
    watched = dataclasses.replace(batches, source=WatchedSource(batches.source, reading))
    while ticket := os.read(tickets.fileno(), TICKET.size):
        slot, start, stop = TICKET.unpack(ticket)
        done = _filled(watched, ring, slot, start, stop)
        reading[1] = IDLE
        try:
            results.send(done)
        except BrokenPipeError:
            return


def _settle() -> None:
    """Ignore signals: the rank handles them, and these processes end with it."""
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    rank = multiprocessing.parent_process()
    assert rank is not None, "this is a process that the rank started"
    _end_with_the_parent()
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_rank, args=(rank,), daemon=True).start()


def _end_with_the_parent() -> None:
    """Have the kernel kill this process when its parent ends: the rank, or the fork server, which ends with it."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # sent even to a process that is stopped


def _end_with_the_rank(rank: Any) -> None:
    """Wait for the end of a rank that ended before the request to the kernel, or that is not the parent."""
    rank.join()
    os._exit(0)


def _filled(batches: Batches, ring: Ring, slot: int, start: int, stop: int) -> Done:
    images, labels = ring.images[slot, start:stop], ring.labels[slot, start:stop]
    try:
        return Done(slot, start, batches.fill(ring.read_keys(slot, start, stop), images, labels), None)
    except DataError as error:
        return Done(slot, start, Findings(), error)
    except Exception as error:  # without a name it is a bug: the rank shows it
        return Done(slot, start, Findings(), name_failure(error) or traceback.format_exc())


class Workers:
    """The rank's side of the processes and of their ring."""

    def __init__(self, batches: Batches, layout: Layout, context: str, read_timeout_seconds: float) -> None:
        """Raises ConfigError if the system cannot provide such processes or memory."""
        self.source, self.read_timeout_seconds = batches.source, read_timeout_seconds
        self.selector = selectors.DefaultSelector()
        self.processes: list[Any] = []
        methods = multiprocessing.get_context(context)
        if context == "forkserver":
            _prepare_server(methods)
        with _named_start(layout.num_workers), _held_signals():
            self.ring = Ring(layout)
            taken, self.tickets = methods.Pipe(duplex=False)
            atexit.register(self.close)  # runs before multiprocessing's exit handler, which would wait without end
            try:
                self._start(batches, methods, taken)
            except OSError:
                self.close()
                raise

    def _start(self, batches: Batches, context: Any, taken: Connection) -> None:
        for number in range(self.ring.layout.num_workers):
            results, told = context.Pipe(duplex=False)
            arguments = (number, batches, self.ring, taken, told)
            process = context.Process(target=work, args=arguments, daemon=True, name=f"loader {number}")
            process.start()
            told.close()  # the process has the only one: its end is seen here
            self.processes.append(process)
            self.selector.register(results, selectors.EVENT_READ, number)
        taken.close()

    def all_alive(self) -> bool:
        """Return whether all processes still run."""
        return all(process.is_alive() for process in self.processes)

    def ask(self, slot: int, start: int, stop: int) -> None:
        """Let the first free process decode the images of these places of the slot."""
        with contextlib.suppress(BrokenPipeError):  # none is left, as `wait` reports
            os.write(self.tickets.fileno(), TICKET.pack(slot, start, stop))

    def wait(self) -> list[Done]:
        """Wait for finished pieces. Raises DataError if a process died or has read for too long."""
        seen, silent_seconds = self.ring.reading.copy(), 0.0
        while not (ready := self.selector.select(LOOK_SECONDS)):
            # Counted in looks: a machine that was asleep has not been silent.
            silent_seconds = 0.0 if (seen != self.ring.reading).any() else silent_seconds + LOOK_SECONDS
            if silent_seconds >= self.read_timeout_seconds:
                raise self._hung()
            seen = self.ring.reading.copy()
        return [self._receive(key.fileobj, key.data) for key, _ in ready]

    def _receive(self, results: Any, number: int) -> Done:
        try:
            done: Done = results.recv()
        except (EOFError, OSError) as error:
            raise self._gone(number) from error
        return done

    def _gone(self, number: int) -> DataError:
        """Return the error for a process that ended."""
        process = self.processes[number]
        process.join(LAST_WORDS_SECONDS)
        code = process.exitcode
        how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        fix = "read its message above this line; the file may crash the decoder"
        if code == -signal.SIGKILL:
            fix = "give the pod more memory or lower --num_workers; or find out who killed it"
        return DataError(self._in_hand(number), f"the process that decoded it died ({how})", fix)

    def _hung(self) -> DataError:
        """Return the error for a loader that makes no progress."""
        busy = [number for number, (_, index) in enumerate(self.ring.reading) if index != IDLE]
        more = f", like {len(busy) - 1} others," if len(busy) > 1 else ""
        what = f"has not been read{more} after {self.read_timeout_seconds:g} s"
        fix = "look at the storage of --data_path, or raise --read_timeout_seconds"
        return DataError(self._in_hand(busy[0]) if busy else "data", what, fix)

    def _in_hand(self, number: int) -> str:
        index = int(self.ring.reading[number, 1])
        return "data" if index == IDLE else self.source.where(index)

    def close(self) -> None:
        """End the processes, whatever they do: they have nothing to clean up."""
        atexit.unregister(self.close)
        for process in self.processes:
            process.kill()
        end = time.monotonic() + LAST_WORDS_SECONDS  # of all: storage may hold them so that even a kill must wait
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # a Connection
        self.selector.close()
        self.tickets.close()
        self.ring.close()


def _prepare_server(context: Any) -> None:
    """Make the process that forks the others import torch once for all, but never the card's software."""
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"  # the rank has torch already: it is for processes of ours
    context.set_forkserver_preload([__name__])


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Hold back stop signals: a process inherits this at its start, so none can end it before it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _named_start(num_workers: int) -> Iterator[None]:
    """Turn OSError into ConfigError."""
    try:
        yield
    except OSError as error:
        what = f"{num_workers}, but this system does not give their memory or start them ({error.strerror or error})"
        raise ConfigError("--num_workers", what, "give fewer; 0 decodes in the main process") from error
