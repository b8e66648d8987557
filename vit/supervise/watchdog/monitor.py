# SPDX-License-Identifier: Apache-2.0
"""python -m vit.supervise.watchdog.monitor STATE SECONDS [FIRST:END]: lines of JSON on the ranks of this node.

The supervisor starts it on each worker and reads the lines: {"ranks": [[rank, pid, step, steps since the start, phase,
seconds without progress, seconds in forward passes, in steps, for data, images of a step, resident bytes, device
bytes], ...], "longest": {phase: seconds}, "stopped": [name, ...], "node": name}. Its commands come on stdin, one a
line: "stacks" makes the ranks write what each of their threads does, which is printed as {"stacks": {rank: text}};
"kill" ends the ranks and their daemons. It ends with stdin. FIRST:END are the ranks of this node, where several nodes
are one machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vit.run.phases import FOLDER, PHASES, STACKS, Heartbeat, heartbeat_of

DAEMONS = ("orted", "prted")
STACKS_SECONDS = 3.0  # a process that is not stopped writes its stacks within milliseconds
MOST_STACK_BYTES = 32_768
TRIES = 5  # to read a heartbeat that changes at this moment


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc/<pid>/stat."""

    name: str
    state: str
    parent: int

    @property
    def is_daemon(self) -> bool:
        """Whether it is Open MPI's on a node; wheels wrap it under a longer name."""
        return self.name.startswith(DAEMONS)


def processes() -> dict[int, Process]:
    """Return all processes that this one can see, zombies left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            head, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
            state, parent = rest.split()[:2]
            if state not in "ZX":
                found[int(entry.name)] = Process(head.partition("(")[2], state, int(parent))
    return found


def below(pid: int, table: dict[int, Process]) -> list[int]:
    """Return all descendants of a process."""
    found = [pid]
    for one in found:
        found += [child for child, process in table.items() if process.parent == one and child not in found]
    return found[1:]


def stopped(beats: Sequence[Heartbeat], table: dict[int, Process], daemons: dict[int, int]) -> list[str]:
    """Return the names of stopped processes (SIGSTOP) among ranks, what they started, and their daemons.

    `daemons`: the rank of each. A daemon that is stopped keeps mpirun waiting also after its rank has ended.
    """
    names = []
    for beat in beats:
        if table[beat.pid].state == "T":
            names.append(f"rank {beat.rank}")
        if any(table[pid].state == "T" for pid in below(beat.pid, table)):
            names.append(f"a loader process of rank {beat.rank}")
    for pid, rank in daemons.items():
        daemon = table.get(pid)
        if daemon is not None and daemon.is_daemon and daemon.state == "T":
            names.append(f"{daemon.name.partition('_')[0]}, the daemon of rank {rank}")
    return names


@dataclass
class Node:
    """The ranks of this node, as their files in the state folder name them."""

    state: Path
    first: int = 0
    end: int = sys.maxsize
    daemons: dict[int, int] = field(default_factory=dict)
    """Process id of each daemon that was seen: one of its ranks."""

    def beats(self, table: dict[int, Process]) -> list[Heartbeat]:
        """Return the heartbeats of the ranks that live."""
        with contextlib.suppress(OSError):
            found = [self._beat(path) for path in sorted((self.state / FOLDER).iterdir())]
            ours = [beat for beat in found if beat is not None and self.first <= beat.rank < self.end]
            return [beat for beat in ours if beat.pid in table and _is_rank(beat.pid)]
        return []

    def _beat(self, path: Path) -> Heartbeat | None:
        for _ in range(TRIES):
            with contextlib.suppress(OSError):
                if found := heartbeat_of(path.read_bytes()):
                    return found
        return None

    def report(self) -> dict[str, Any]:
        """Return the line on this moment."""
        table = processes()
        beats, now = self.beats(table), time.monotonic()
        self._note_daemons(beats, table)
        return {
            "ranks": [
                [
                    *(beat.rank, beat.pid, beat.step, beat.num_steps, beat.phase, round(now - beat.progress, 1)),
                    *(round(seconds, 4) for seconds in (beat.own, beat.totals["step"], beat.totals["data"])),
                    *(beat.images, _resident(beat.pid), beat.device_memory),
                ]
                for beat in beats
            ],
            "longest": {name: round(max((beat.longest[name] for beat in beats), default=0.0), 3) for name in PHASES},
            "stopped": stopped(beats, table, self.daemons),
            "node": os.environ.get("MPIKIT_NODE_NAME", ""),
        }

    def _note_daemons(self, beats: Sequence[Heartbeat], table: dict[int, Process]) -> None:
        for beat in beats:
            parent = table[beat.pid].parent
            if parent in table and table[parent].is_daemon:
                self.daemons.setdefault(parent, beat.rank)

    def stacks(self) -> dict[str, str]:
        """Let the ranks write the stacks of their threads; return them by rank."""
        asked = {}
        for beat in self.beats(processes()):
            with contextlib.suppress(OSError):
                file = self.state / STACKS / str(beat.pid)
                asked[beat.rank] = file, file.stat().st_size
                os.kill(beat.pid, signal.SIGUSR2)
        end = time.monotonic() + STACKS_SECONDS
        while asked and time.monotonic() < end and any(_size(file) <= size for file, size in asked.values()):
            time.sleep(0.1)
        time.sleep(0.1)  # for the last lines
        return {str(rank): _tail(file, size) for rank, (file, size) in asked.items()}

    def kill(self) -> None:
        """End the ranks and their daemons, stopped ones too."""
        table = processes()
        beats = self.beats(table)
        self._note_daemons(beats, table)
        daemons = [pid for pid in self.daemons if pid in table and table[pid].is_daemon]
        for pid in (*daemons, *(one for beat in beats for one in (beat.pid, *below(beat.pid, table)))):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _is_rank(pid: int) -> bool:
    """Return whether the process still is a rank: another one may have reused its number."""
    with contextlib.suppress(OSError):
        return b"vit.train" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _tail(path: Path, start: int) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(start)
        return file.read(MOST_STACK_BYTES).decode("utf-8", "replace")
    return ""


def _send(value: dict[str, Any]) -> None:
    """Write an object as a line for the launcher."""
    line = f"{json.dumps(value)}\n".encode()
    while line:
        line = line[os.write(1, line) :]


def main(argv: Sequence[str]) -> int:
    """Print reports until stdin ends."""
    first, _, end = (argv[2] if len(argv) > 2 else "").partition(":")
    node, seconds = Node(Path(argv[0]), int(first or 0), int(end or sys.maxsize)), float(argv[1])
    while True:
        _send(node.report())
        if not select.select([0], [], [], seconds)[0]:
            continue
        commands = os.read(0, 4096)
        if not commands:
            return 0
        for command in commands.split():
            if command == b"stacks":
                _send({"stacks": node.stacks()})
            elif command == b"kill":
                node.kill()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1:])
    os._exit(0)  # no complaint of a stdout that is gone
