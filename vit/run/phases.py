# SPDX-License-Identifier: Apache-2.0
"""The heartbeat of a rank: what it does at this moment, since when, and how long it did what. Needs no torch.

At each moment exactly one phase is current, so the seconds of all phases add up to the time since the rank's start.
The numbers are in a file of SIZE bytes on the node itself, $MPIKIT_STATE/heartbeats/<pid>, which the process maps into
its memory: a change costs no system call, and vit.supervise.watchdog.monitor reads it at any time. Without
MPIKIT_STATE, or if the file cannot be written, the numbers stay in the process.

The file has the fields of FIELDS, then the seconds of each phase, then the longest time of each phase without
progress: float64 numbers in the machine's byte order. Moments are of CLOCK_MONOTONIC. `changes` is odd while fields
change.
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHASES: dict[str, str] = {
    "init": "from the start of the process: imports, ranks, data set, model; until the first batch is asked for",
    "load": "weights or a checkpoint are verified and read",
    "first_batch": "the first batch after the start is waited for",
    "compile": "the first step after the start, in which devices and compilers build their programs",
    "step": "all later steps",
    "data": "batches of later steps are waited for",
    "eval": "evaluation",
    "save": "the state is copied for a checkpoint, and a checkpoint that is still being written is waited for",
    "other": "metric lines and events, and the end of the run",
}
"""Each phase and what it contains; the order is that of the file."""
FIELDS = (
    "version",
    "changes",
    "pid",
    "rank",
    "started",
    "step",
    "num_steps",
    "phase",
    "since",
    "progress",
    "own",
    "images",
    "device_memory",
)
VERSION = 3.0
SIZE = 8 * (len(FIELDS) + 2 * len(PHASES))
FOLDER, STACKS = "heartbeats", "stacks"

_NAMES = tuple(PHASES)
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}
_FIRST = {"data": "first_batch", "step": "compile"}  # what they are before the first step has ended
_CHANGES, _STEP, _NUM_STEPS, _PHASE, _SINCE, _PROGRESS, _OWN, _IMAGES, _DEVICE_MEMORY = (
    FIELDS.index(name)
    for name in ("changes", "step", "num_steps", "phase", "since", "progress", "own", "images", "device_memory")
)
_TOTALS = len(FIELDS)
_LONGEST = _TOTALS + len(PHASES)


class Phases:
    """The clock of one rank, on a buffer that others may read."""

    def __init__(self, buffer: Any, *, pid: int, rank: int, age_seconds: float = 0.0) -> None:
        """Start in phase init; the process began `age_seconds` ago."""
        self.numbers = memoryview(buffer).cast("B").cast("d")
        self.stepping = False
        now = time.monotonic()
        first = {"pid": pid, "rank": rank, "started": now - age_seconds, "since": now - age_seconds, "progress": now}
        for name, value in first.items():
            self.numbers[FIELDS.index(name)] = value
        self.numbers[0] = VERSION

    def enter(self, name: str) -> None:
        """End the current phase and start this one; "data" and "step" have names of their own before step 1 ends."""
        if not self.stepping:
            name = _FIRST.get(name, name)
        numbers, now = self.numbers, time.monotonic()
        phase = int(numbers[_PHASE])
        numbers[_CHANGES] += 1
        numbers[_TOTALS + phase] += now - numbers[_SINCE]
        if now - numbers[_PROGRESS] > numbers[_LONGEST + phase]:
            numbers[_LONGEST + phase] = now - numbers[_PROGRESS]
        numbers[_PHASE] = _NUMBERS[name]
        numbers[_SINCE] = numbers[_PROGRESS] = now
        numbers[_CHANGES] += 1

    def beat(self) -> None:
        """Note progress within a phase."""
        self.enter(_NAMES[int(self.numbers[_PHASE])])

    def stepped(self, step: int, images: int = 0) -> None:
        """Note that the run has done `step` steps; this rank's share of one is `images`."""
        self.numbers[_STEP] = step
        self.numbers[_IMAGES] = images
        self.numbers[_NUM_STEPS] += 1
        self.stepping = True
        self.enter("step")

    @property
    def current(self) -> str:
        """The phase of this moment."""
        return _NAMES[int(self.numbers[_PHASE])]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the file of a rank says. Moments are of this machine's CLOCK_MONOTONIC."""

    pid: int
    rank: int
    started: float
    step: int
    num_steps: int
    """Steps since the start of the process."""
    phase: str
    since: float
    """Start of the phase."""
    progress: float
    """Last sign of progress."""
    own: float
    """Seconds of forward passes, in which a rank waits for no other one."""
    images: int
    """Images of this rank in a step."""
    device_memory: int
    """Most bytes of device memory so far; 0 where the device does not say."""
    totals: dict[str, float]
    """Seconds of each phase, the current one not counted since its start."""
    longest: dict[str, float]
    """Longest time of each phase without progress, the current one not counted."""

    def seconds(self, now: float) -> dict[str, float]:
        """Return the seconds of each phase up to this moment: together the time since the start."""
        return {**self.totals, self.phase: self.totals[self.phase] + max(0.0, now - self.since)}


def heartbeat_of(content: bytes) -> Heartbeat | None:
    """Return what these bytes of a file say; None for another layout, or while the rank changes them."""
    if len(content) != SIZE:
        return None
    numbers = memoryview(content).cast("d")
    found = dict(zip(FIELDS, numbers[:_TOTALS], strict=True))
    if found["version"] != VERSION or found["changes"] % 2 or not 0 <= found["phase"] < len(PHASES):
        return None
    return Heartbeat(
        pid=int(found["pid"]),
        rank=int(found["rank"]),
        started=found["started"],
        step=int(found["step"]),
        num_steps=int(found["num_steps"]),
        phase=_NAMES[int(found["phase"])],
        since=found["since"],
        progress=found["progress"],
        own=found["own"],
        images=int(found["images"]),
        device_memory=int(found["device_memory"]),
        totals=dict(zip(_NAMES, numbers[_TOTALS:_LONGEST], strict=True)),
        longest=dict(zip(_NAMES, numbers[_LONGEST:], strict=True)),
    )


_mine: Phases | None = None
"""The clock of this process; None if `start` was not called, for example in vit.evaluate."""


def start(environ: Mapping[str, str]) -> None:
    """Start the heartbeat of this process, a rank of mpirun or torchrun."""
    global _mine
    found = environ.get("OMPI_COMM_WORLD_RANK") or environ.get("RANK") or "0"
    rank = int(found) if found.isdecimal() else 0
    state = environ.get("MPIKIT_STATE")
    _mine = Phases(_file(state) if state else bytearray(SIZE), pid=os.getpid(), rank=rank, age_seconds=process_age())


def _file(state: str) -> Any:
    """Return the mapped file of this process, or plain memory if the file cannot be created."""
    try:
        descriptor = _open_new(Path(state, FOLDER))
        try:
            os.pwrite(descriptor, bytes(SIZE), 0)  # allocates it: a full disk must fail here, not as SIGBUS later
            return mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
    except OSError:
        return bytearray(SIZE)


def _open_new(folder: Path) -> int:
    """Make the file of this process in a folder of the node. Raises OSError."""
    path = folder / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def show_stacks(environ: Mapping[str, str]) -> None:
    """Write the stacks of all threads to $MPIKIT_STATE/stacks/<pid> on each SIGUSR2, also while C code runs."""
    if environ.get("MPIKIT_STATE"):
        with contextlib.suppress(OSError):
            descriptor = _open_new(Path(environ["MPIKIT_STATE"], STACKS))  # open as long as the process lives
            faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True)


def process_age() -> float:
    """Return for how many seconds this process has lived; 0 where /proc does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return age if 0 < age < 600 else 0.0  # another clock, as in a time namespace, is of no use
    return 0.0


def enter(name: str) -> None:
    """End the current phase and start this one."""
    if _mine is not None:
        _mine.enter(name)


def beat() -> None:
    """Note progress within the current phase."""
    if _mine is not None:
        _mine.beat()


def stepped(step: int, images: int = 0) -> None:
    """Note that the run has done `step` steps; this rank's share of one is `images`."""
    if _mine is not None:
        _mine.stepped(step, images)


def worked(seconds: float) -> None:
    """Add time in which this rank waited for no other one."""
    if _mine is not None:
        _mine.numbers[_OWN] += seconds


@contextlib.contextmanager
def during(name: str) -> Iterator[None]:
    """Be in this phase within the block, and in the phase before it afterwards, also after an exception."""
    if _mine is None:
        yield
        return
    before = _mine.current
    _mine.enter(name)
    try:
        yield
    finally:
        _mine.enter(before)


def used(device_gib: float | None) -> None:
    """Note the most device memory so far; None where the device does not say."""
    if _mine is not None and device_gib is not None:
        _mine.numbers[_DEVICE_MEMORY] = round(device_gib * 2**30)


def record() -> dict[str, Any]:
    """Return {started: Unix time of the rank's start, seconds: of each phase since then}; empty without a heartbeat."""
    if _mine is None:
        return {}
    _mine.beat()
    totals = {name: round(_mine.numbers[_TOTALS + number], 3) for name, number in _NUMBERS.items()}
    return {"started": round(time.time() - sum(totals.values()), 3), "seconds": totals}
