# SPDX-License-Identifier: Apache-2.0
"""Takes lost nodes back: while an attempt runs on fewer nodes than the job has, looks whether the others work again.

A node works again if setup.sh passes on it, with its import of torch. The ranks are then asked to save and end, right
after the next checkpoint, and the next attempt starts on more nodes. Each such restart doubles the time until the next
look, so that a node that comes and goes costs little.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vit.supervise.history import RunFiles
from vit.supervise.watchdog.monitors import read_plan
from vit.supervise.workers import hosts_in

LOOK_SECONDS = 30.0
LONGEST_SECONDS = 3600.0
CHECK_SECONDS = 600.0  # as long as run_vit.sh gives setup.sh
CHECKPOINT_SECONDS = 600.0  # a run whose checkpoints are rarer, or not to be seen here, is stopped between two of them
AT_ONCE = 32  # connections
MOST_NAMED = 4
WORKS = "mpikit-works"


@dataclass
class Growth:
    """The nodes that the current attempt does without."""

    counts: Sequence[int]
    """Numbers of nodes on which the job can run, the last of them all nodes."""
    hostfile: Path
    """Of all nodes."""
    plan: Path
    """What run_vit.sh leaves: how to reach nodes, and those in use."""
    files: RunFiles
    say: Callable[[str], None]
    scale: float = 1.0
    """For tests: factor of every time."""
    asked: bool = False
    """Whether the attempt was asked to end, to start on more nodes."""
    times: int = 0
    """How often that happened."""
    _done: threading.Event | None = None

    def begin(self, end_attempt: Callable[[], None]) -> None:
        """Look after the missing nodes in a thread; it calls `end_attempt` once they are back."""
        self.end()
        self._done = threading.Event()
        threading.Thread(target=self._work, args=(self._done, end_attempt), name="growth", daemon=True).start()

    def end(self) -> bool:
        """Stop looking; return whether the attempt was asked to end."""
        if self._done:
            self._done.set()
            self._done = None
        asked, self.asked = self.asked, False
        return asked

    def _work(self, done: threading.Event, end_attempt: Callable[[], None]) -> None:
        while not done.wait(self.scale * min(LONGEST_SECONDS, LOOK_SECONDS * 2**self.times)):
            try:
                kit, _, rsh, used = read_plan(self.plan.read_bytes())
            except (OSError, ValueError):
                continue
            missing = [host for host in hosts_in(self.hostfile)[: self.counts[-1]] if host not in used]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                sound = list(pool.map(lambda host, kit=kit, rsh=rsh: _works(host, kit, rsh), missing))
            back = [host.partition(".")[0] for host, works in zip(missing, sound, strict=True) if works]
            goal = max((count for count in self.counts if count <= len(used) + len(back)), default=0)
            if goal > len(used):
                self._grow(done, back, goal, end_attempt)
                return

    def _grow(self, done: threading.Event, back: Sequence[str], goal: int, end_attempt: Callable[[], None]) -> None:
        names = ", ".join(back[:MOST_NAMED]) + (f" and {len(back) - MOST_NAMED} more" if len(back) > MOST_NAMED else "")
        verb = "works" if len(back) == 1 else "work"
        self.say(f"{names} {verb} again: after the next checkpoint the job goes on with {goal} nodes")
        step = self.files.checkpoint_step()
        for _ in range(round(CHECKPOINT_SECONDS)):
            if step is None or self.files.checkpoint_step() != step:
                break
            if done.wait(self.scale):
                return
        if not done.is_set():
            self.asked, self.times = True, self.times + 1
            end_attempt()


def _works(host: str, kit: str, rsh: Sequence[str]) -> bool:
    """Return whether the checks of setup.sh pass on this node now."""
    checks = f"bash {shlex.quote(kit + '/setup.sh')} thorough >/dev/null 2>&1 && echo {WORKS}"
    try:  # the exit code is not known: vit.supervise.process reaps every child
        told = subprocess.run(
            [*rsh, host, checks],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CHECK_SECONDS,
            check=False,
        )
        return WORKS.encode() in told.stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return False
