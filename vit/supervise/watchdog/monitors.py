# SPDX-License-Identifier: Apache-2.0
"""The watchdog of an attempt: a monitor on each node, the launcher's own processes, and the end of a job that hangs.

run_vit.sh writes to the file MPIKIT_WATCH how nodes are reached, once they have passed their checks. A thread then
keeps one connection to each node (ssh, or the agent of `generate.py run`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vit.files import write_atomic
from vit.supervise.history import RunFiles
from vit.supervise.nodes import Nodes
from vit.supervise.watchdog.live import LIVE_SECONDS, Live
from vit.supervise.watchdog.monitor import Process, below, processes
from vit.supervise.watchdog.scores import Scores
from vit.supervise.watchdog.watch import Watch, odd_ones

LIMITS, RANKS, LIVE = "limits.json", "ranks.json", "live.json"
INTERVAL_SECONDS = 5.0
LOOK_SECONDS = 1.0
STACKS_SECONDS = 15.0  # of all nodes
END_SECONDS = 3.0  # of the monitors
MOST_LINE_BYTES = 1 << 20
LAUNCHER = "the launcher"


@dataclass
class Monitor:
    """The monitor of one node."""

    host: str
    process: subprocess.Popen[bytes]
    half: bytes = b""

    def lines(self) -> list[dict[str, Any]] | None:
        """Return the whole lines that have come; None once it has ended."""
        assert self.process.stdout is not None
        piece = os.read(self.process.stdout.fileno(), 1 << 16)
        if not piece:
            return None
        *whole, self.half = (self.half + piece).split(b"\n")
        self.half = self.half[-MOST_LINE_BYTES:]
        return [found for line in whole if (found := _object(line))]

    def tell(self, command: bytes) -> None:
        """Give it a command."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(command + b"\n")
            self.process.stdin.flush()


def _object(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


@dataclass
class Watchdog:
    """Watches one attempt at a time; `found` says why it was ended."""

    files: RunFiles
    say: Callable[[str], None]
    scale: float = 1.0
    nodes: Nodes | None = None
    """Learns where the ranks run."""
    num_nodes: int = 0
    """Of the whole job, if attempts may go on with fewer; else 0."""
    found: str = ""
    number: int = 0
    """Attempts so far."""
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        try:
            self.plan = Path(tempfile.mkdtemp(prefix="mpikit-watch-"), "plan")
        except OSError:  # run_vit.sh then says that nothing is watched
            self.plan = Path(os.devnull, "plan")

    def begin(self, child: int) -> None:
        """Watch the attempt whose first process is `child`."""
        self.found, self.number = "", self.number + 1
        self.ended.clear()
        self.thread = threading.Thread(target=self._run, args=(child,), name="watchdog", daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Stop watching; the monitors have ended afterwards."""
        self.ended.set()
        if self.thread is not None:
            self.thread.join(STACKS_SECONDS + 2 * END_SECONDS)
        self.plan.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the temporary folder."""
        if self.plan.parent != Path(os.devnull):
            shutil.rmtree(self.plan.parent, ignore_errors=True)

    def _run(self, child: int) -> None:
        while not self.plan.exists():
            if self.ended.wait(LOOK_SECONDS):
                return
        try:
            self._watch(child, _start(self.plan.read_bytes(), self.scale * INTERVAL_SECONDS))
        except Exception as error:  # the attempt goes on without a watchdog
            self.say(f"the ranks are not watched any longer: {type(error).__name__}: {error}")

    def _watch(self, child: int, monitors: list[Monitor]) -> None:
        slower = max(1.0, self.num_nodes / max(1, len(monitors)))
        watch, scores = Watch(_learnt(self.files.folder / LIMITS), self.scale, slower), Scores()
        live = Live([monitor.host for monitor in monitors], self.scale * LIVE_SECONDS)
        try:
            with selectors.DefaultSelector() as selector:
                for monitor in monitors:
                    selector.register(monitor.process.stdout, selectors.EVENT_READ, monitor)  # type: ignore[arg-type]  # a pipe
                while not self.ended.wait(LOOK_SECONDS):
                    _hear(selector, watch, {})
                    if self.nodes:
                        self.nodes.learn(watch.nodes, watch.hosts)
                    own = [f"{name} on {LAUNCHER}" for name in _held(child, processes())]
                    watch.note_stopped(LAUNCHER, own, time.monotonic())
                    self._score(scores, watch)
                    self._write(LIVE, live.look(watch, time.monotonic(), time.time()))
                    if reason := watch.judge(time.monotonic()):
                        self._end_attempt(child, reason, selector, watch, monitors)
                        return
        finally:
            with contextlib.suppress(OSError):
                (self.files.folder / LIVE).unlink(missing_ok=True)
            self._remember(watch)
            _close(monitors)

    def _end_attempt(
        self,
        child: int,
        reason: str,
        selector: selectors.BaseSelector,
        watch: Watch,
        monitors: list[Monitor],
    ) -> None:
        """Leave the stacks of all ranks, then kill them, their daemons and mpirun."""
        self.say(f"the job hangs: {reason}")
        stacks: dict[int, str] = {}
        for monitor in monitors:
            monitor.tell(b"stacks")
        end, answered = time.monotonic() + STACKS_SECONDS, 0
        while answered < len(monitors) and time.monotonic() < end and selector.get_map():
            selector.select(LOOK_SECONDS)
            answered += _hear(selector, watch, stacks)
        self._leave(stacks, watch.hosts)
        self.found = reason  # before the end of its first process, which ends the attempt
        rest = below(child, processes())
        _kill([child])  # run_vit.sh, which would guess why mpirun ends
        for monitor in monitors:
            monitor.tell(b"kill")
        end = time.monotonic() + END_SECONDS
        while time.monotonic() < end and processes().keys() & set(rest):  # mpirun ends by itself, unless it is stopped
            time.sleep(0.1)
        _kill(rest)

    def _leave(self, stacks: dict[int, str], hosts: dict[int, str]) -> None:
        known = {rank: text for rank, text in stacks.items() if rank in hosts and text}
        if not known:
            return
        for line in odd_ones(known, hosts):
            self.say(f"  {line}")
        file = self.files.folder / f"stacks-{time.strftime('%Y%m%dT%H%M%S')}.txt"
        text = "".join(f"rank {rank} on {hosts[rank]}\n{known[rank]}\n" for rank in sorted(known))
        with contextlib.suppress(OSError):
            file.write_text(text, encoding="utf-8", errors="replace")
            self.say(f"  the stacks of all ranks are in {file}")

    def _score(self, scores: Scores, watch: Watch) -> None:
        content = scores.look([work for _, works in watch.works.values() for work in works])
        if content is not None:
            for sentence in scores.slow(content):
                self.say(sentence)
            if self.nodes:
                self.nodes.scored(content)
            self._write(RANKS, content)

    def _remember(self, watch: Watch) -> None:
        if watch.longest:
            self._write(LIMITS, {"longest_seconds": watch.longest})

    def _write(self, name: str, content: dict[str, Any] | None) -> None:
        """Replace a file of the run; the attempt goes on without it if storage refuses."""
        if content is not None and self.files.folder.is_dir():
            with contextlib.suppress(OSError):
                write_atomic(self.files.folder / name, json.dumps(content) + "\n")


def _held(child: int, table: dict[int, Process]) -> list[str]:
    """Return the names of the launcher's stopped processes: mpirun, its ssh, and the script that started it.

    Where the nodes are this machine, their daemons are below mpirun, and not the launcher's.
    """
    own = {pid: process for pid, process in table.items() if not process.is_daemon}
    ours = (child, *below(child, own))
    return [_program(pid, own[pid].name) for pid in ours if pid in own and own[pid].state == "T"]


def _program(pid: int, name: str) -> str:
    """Return the program as it was called: the kernel's name of a wrapped mpirun is the wrapper's."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[0].decode(errors="replace").rpartition("/")[2] or name
    return name


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _hear(selector: selectors.BaseSelector, watch: Watch, stacks: dict[int, str]) -> int:
    """Take all lines that have come; return how many of them have stacks."""
    answers = 0
    for key, _ in selector.select(0):
        monitor: Monitor = key.data
        lines = monitor.lines()
        if lines is None:
            selector.unregister(key.fileobj)
            continue
        for line in lines:
            watch.hear(monitor.host, line, time.monotonic())
            if isinstance(found := line.get("stacks"), dict):
                answers += 1
                stacks |= {int(rank): str(text) for rank, text in found.items() if str(rank).isdecimal()}
    return answers


def read_plan(plan: bytes) -> tuple[str, int, list[str], list[str]]:
    """Return the kit's folder, the ranks of a node where all nodes are one machine (else 0), the words of the remote
    shell, and the hosts in use. In the plan each of them ends with a NUL, and a number of words precedes the words.
    Raises ValueError."""
    kit, each, number, *words = plan.decode().split("\0")[:-1]
    return kit, int(each), words[: int(number)], words[int(number) :]


def _start(plan: bytes, seconds: float) -> list[Monitor]:
    """Start the monitors."""
    kit, each, rsh, hosts = read_plan(plan)
    monitors = []
    for place, host in enumerate(hosts):
        ours = f" {place * each}:{(place + 1) * each}" if each else ""
        command = f"bash {shlex.quote(kit + '/rank.sh')} monitor {seconds:g}{ours}"
        process = subprocess.Popen(
            [*rsh, host, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        monitors.append(Monitor(host.partition(".")[0], process))
    return monitors


def _close(monitors: list[Monitor]) -> None:
    """End the monitors: each ends with its stdin, or is killed."""
    for monitor in monitors:
        with contextlib.suppress(OSError):
            monitor.process.stdin.close()  # type: ignore[union-attr]  # a pipe
    end = time.monotonic() + END_SECONDS
    for monitor in monitors:
        while monitor.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            os.killpg(monitor.process.pid, signal.SIGKILL)


def _learnt(file: Path) -> dict[str, float]:
    """Return what earlier attempts and launchers have learnt."""
    try:
        found = json.loads(file.read_text())["longest_seconds"]
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
