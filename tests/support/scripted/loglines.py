# SPDX-License-Identifier: Apache-2.0
"""A pod whose log streams break off where a test says, and the lines that a container writes at worst."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from mpikit.lifecycle.logs import JobLog, Wanted
from tests.support.scripted.operator import ended, pod, with_status
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import NAMESPACE, World

JOB, POD = "job", "job-launcher-x"
START = datetime(2026, 11, 25, 3, tzinfo=timezone.utc)
TEXTS = (
    "",
    "step 10 loss 6.9",
    "größer 大きい 🙂",
    "a\tb  ",
    "2026-11-25T03:00:00.5Z not a stamp",
    "\x1b[1mbold\x1b[0m",
    "x",
)


@dataclass(frozen=True)
class Line:
    """One line as the container runtime keeps it."""

    moment: datetime
    stamped: bytes
    text: bytes


def written(seed: object, count: int, start: datetime = START, *, ends: bool = True, longest: int = 400) -> list[Line]:
    """Lines of two writers: stamps that go back by less than a second, or come again, with the same text too."""
    chance = random.Random(f"{seed}/lines")
    clock, found, nanoseconds = start, [], 0
    for number in range(count):
        if chance.random() < 0.7:  # else: the same stamp again
            clock += timedelta(microseconds=chance.choice((0, 1, 900, 40_000, 700_000)))
            nanoseconds = chance.choice((0, 1, 999))
        back = timedelta(microseconds=chance.choice((0, 0, 0, 10, 400_000, 990_000)))
        moment = max(start, clock - back)
        text = chance.choice((*TEXTS, f"line {number}", f"line {number}")).encode()
        if chance.random() < 0.005:
            text *= longest
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}{nanoseconds:03}Z ".encode()
        found.append(Line(moment, stamp + text + b"\n", text))
    if not ends:
        last = found[-1]
        found[-1] = Line(last.moment, last.stamped.rstrip(b"\n") + b"!", last.text + b"!")
    return found


@dataclass(frozen=True)
class Cut:
    """Where one answer ends too early, how, and what the container does at that moment."""

    place: int
    how: str = "clean"
    """clean: as a whole answer ends; broken: without the last chunk; reset."""
    then: str = "runs"
    """runs, or ends (and is started again if there is another)."""


@dataclass
class LogPod:
    """The launcher of one job; each container writes its lines, ends, and the next one is started."""

    containers: list[list[Line]]
    cuts: list[Cut | None] = field(default_factory=list)
    """One an answer; None lets it through. All later ones go through too."""
    lag: float = 0.0
    """Seconds until the pod shows that a container has ended or was started."""
    shows_end: bool = False
    """Meanwhile it shows that the container has ended: the kubelet waits before it starts it again."""
    present: int = 0
    shown: int = 0
    over: bool = False
    ended_at: float = 0.0
    clock: Callable[[], float] = time.monotonic
    served: list[dict[str, str]] = field(default_factory=list)

    @property
    def expected(self) -> list[bytes]:
        return [line.text for lines in self.containers for line in lines]

    def answer(self, request: Request, handler: Handler) -> bool:
        """What the server answers to a request for the log or the pod."""
        if request.path.endswith(f"/pods/{POD}/log"):
            self.log(request.query, handler)
            return True
        if "/pods" in request.path:
            self.show(handler.server)
        return False

    def show(self, server: Scripted) -> None:
        """Bring the pod and the job up to date, as the kubelet and the operator do a little later."""
        if self.clock() < self.ended_at + self.lag:
            if self.shows_end and self.shown < self.present:
                item = pod(NAMESPACE, JOB, "launcher", POD, "uid-of-pod")
                server.store.put("MODIFIED", "pods", ended(item, 1, "Running"))
            return
        self.shown = self.present
        item = pod(NAMESPACE, JOB, "launcher", POD, "uid-of-pod")
        item["status"]["containerStatuses"][0]["restartCount"] = self.shown
        server.store.put("MODIFIED", "pods", ended(item, 0, restarts=self.shown) if self.over else item)
        if self.over:
            job = server.store.get("mpijobs", NAMESPACE, JOB)
            server.store.put("MODIFIED", "mpijobs", with_status(job, "Succeeded"))

    def log(self, query: dict[str, str], handler: Handler) -> None:
        self.served.append(query)
        waits = self.shows_end and self.shown < self.present and self.clock() < self.ended_at + self.lag
        number = self.present - waits - (query.get("previous") == "true")
        if number < 0:
            told = f'previous terminated container "launcher" in pod "{POD}" not found'
            handler.status(400, "BadRequest", told)
            return
        since = query.get("sinceTime")
        begin = datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc) if since else START
        lines = [line for line in self.containers[number] if line.moment >= begin]
        if tail := query.get("tailLines"):
            lines = lines[len(lines) - min(int(tail), len(lines)) :]
        data = b"".join(line.stamped for line in lines)
        cut = self.cuts.pop(0) if self.cuts else None
        handler.head(200, {"Content-Type": "text/plain", "Transfer-Encoding": "chunked"})
        if cut and cut.place < len(data):
            self.send(data[: cut.place], handler)
            if query.get("follow") and cut.then == "ends" and not waits:
                self.end()
            if cut.how == "reset":
                handler.reset()
            if cut.how == "broken":
                handler.close_connection = True
                return
        else:
            self.send(data, handler)
            if query.get("follow") and not waits:
                self.end()
        handler.chunk(b"")

    def send(self, data: bytes, handler: Handler) -> None:
        if data:
            handler.chunk(data)

    def end(self) -> None:
        """The container has written its last line."""
        if self.over:
            return
        self.ended_at = self.clock()
        if self.present + 1 < len(self.containers):
            self.present += 1
        else:
            self.over = True


class Logs:
    """A server whose one pod is exchanged for each case; the client keeps its connection."""

    def __init__(self, world: World) -> None:
        self.world, self.pod = world, LogPod([[]])
        self.server = world.server
        self.server.keep_alive, self.server.answer = True, lambda *both: self.pod.answer(*both)
        self.server.store.on_change = lambda what, item: None
        self.cluster = world.cluster()
        self.told: list[str] = []

    def begin(self, pod_: LogPod) -> None:
        """A new job with this pod."""
        self.pod, pod_.clock = pod_, self.world.clock
        metadata = {"name": JOB, "namespace": NAMESPACE, "uid": "uid-of-job"}
        job = {"kind": "MPIJob", "metadata": metadata, "spec": {}}
        self.server.store.history.clear()
        self.server.store.put("ADDED", "mpijobs", with_status(job, "Running"))
        pod_.show(self.server)

    def follow(self, pod_: LogPod, **how: int) -> list[bytes]:
        """All lines that `logs -f` would print."""
        self.begin(pod_)
        return list(self.lines(**how))

    def lines(self, **how: int) -> Iterator[bytes]:
        log = JobLog(self.cluster, NAMESPACE, JOB, Wanted(), self.told.append)
        return log.lines(follow=True, **how)


def cuts_of(seed: object, size: int, most: int) -> list[Cut | None]:
    """Cuts of one run; an answer among them may go through."""
    chance = random.Random(f"{seed}/cuts")
    hows, thens = ("clean", "broken", "reset"), ("runs", "runs", "runs", "ends")
    found: list[Cut | None] = []
    for _ in range(chance.randint(1, most)):
        found.append(Cut(chance.randrange(size), chance.choice(hows), chance.choice(thens)))
        if chance.random() < 0.2:
            found.append(None)
    return found


def size_of(lines: list[Line]) -> int:
    """Bytes of a log with its stamps."""
    return sum(len(line.stamped) for line in lines)
