# SPDX-License-Identifier: Apache-2.0
"""A seeded schedule of faults, the commands that run in it, and the judge of what came of them."""

from __future__ import annotations

import base64
import json
import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mpikit.errors import KitError
from mpikit.lifecycle.delete import delete_job
from mpikit.lifecycle.submit import submit
from mpikit.lifecycle.wait import wait_for
from mpikit.status.snapshot import read_snapshot
from mpikit.status.verdict import status_of
from tests.support.scripted.certificates import Certificates
from tests.support.scripted.faults import seeded
from tests.support.scripted.server import Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

SLOW_REQUEST_SECONDS, HANG_SECONDS = 0.25, 0.4
WAIT_SECONDS = 3600.0  # of the world's clock
COMMAND_SECONDS = 40.0  # of the real one: a command is a few dozen requests, each with its limit
OPEN = ("Pending", "Starting", "Running", "Unschedulable", "Pulling")


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    verdict: str
    text: str

    @property
    def in_doubt(self) -> bool:
        return "may or may not" in self.text


class User(Protocol):
    """Who gives the commands."""

    def submit(self, world: World) -> Outcome: ...
    def wait(self, world: World) -> Outcome: ...
    def status(self, world: World) -> Outcome: ...
    def delete(self, world: World) -> Outcome: ...


@dataclass(frozen=True)
class Library:
    """Commands through the library."""

    manifests: Sequence[Object]

    @property
    def name(self) -> str:
        return next(str(item["metadata"]["name"]) for item in self.manifests if item["kind"] == "MPIJob")

    def submit(self, world: World) -> Outcome:
        return outcome(lambda: (submit(world.cluster(), self.manifests, NAMESPACE), "")[1])

    def wait(self, world: World) -> Outcome:
        return outcome(lambda: wait_for(world.cluster(), NAMESPACE, self.name, "succeeded", WAIT_SECONDS, str).verdict)

    def status(self, world: World) -> Outcome:
        return outcome(lambda: status_of(read_snapshot(world.cluster(), NAMESPACE, self.name)).verdict)

    def delete(self, world: World) -> Outcome:
        return outcome(lambda: (delete_job(world.cluster(), NAMESPACE, self.name, 60.0, True, str), "")[1])


def outcome(command: Callable[[], str]) -> Outcome:
    """What a call came to; anything but an error of the kit's own goes through."""
    try:
        return Outcome(0, command(), "")
    except KitError as error:
        verdict = status.verdict if (status := getattr(error, "status", None)) else ""
        return Outcome(error.exit_code, verdict, "".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class CommandLine:
    """Commands through generate.py. `run` takes arguments and gives code, stdout and stderr."""

    run: Callable[..., Any]
    name: str
    settings: Sequence[str]

    def _done(self, world: World, verb: str, *more: str) -> Any:
        place = ("--kubeconfig", str(world.kubeconfig), "-n", NAMESPACE, "--debug")
        limit = ("--request-timeout", str(world.request_seconds))
        return self.run(verb, *more, *self.settings, *place, *limit)

    def submit(self, world: World) -> Outcome:
        return spoken(self._done(world, "submit"))

    def wait(self, world: World) -> Outcome:
        return spoken(self._done(world, "wait", self.name, "--timeout", "1h", "-o", "json"))

    def status(self, world: World) -> Outcome:
        return spoken(self._done(world, "status", self.name, "-o", "json"))

    def delete(self, world: World) -> Outcome:
        return spoken(self._done(world, "delete", self.name, "--timeout", "60s"))


def spoken(done: Any) -> Outcome:
    """The outcome of a command line; its verdict is on stdout."""
    verdict = json.loads(done.stdout)["verdict"] if done.stdout.startswith("{") else ""
    assert done.returncode in (0, 1, 3, 4), f"exit code {done.returncode}\n{done.stderr}"
    return Outcome(done.returncode, verdict, done.stdout + done.stderr)


class Schedule:
    """One seed: submit, wait, status, delete, each until it works, at last without faults."""

    def __init__(
        self,
        seed: int,
        user: User,
        manifests: Sequence[Object],
        folder: Path,
        certificates: Certificates,
        *,
        two_at_once: bool = True,
    ) -> None:
        self.seed, self.user, self.chance = seed, user, random.Random(f"{seed}/driver")
        self.pairs = two_at_once
        self.job = next(str(item["metadata"]["name"]) for item in manifests if item["kind"] == "MPIJob")
        self.config_maps = {str(item["metadata"]["name"]) for item in manifests if item["kind"] == "ConfigMap"}
        plan = seeded(seed, tls=seed % 5 == 0)
        slow = any(kind in plan.kinds for kind in ("hang", "hang-done", "late", "drip", "drip-head"))
        self.server = Scripted(
            plan,
            certificates if seed % 5 == 0 else None,
            tokens=[f"token-{random.Random(seed).getrandbits(80):x}"],
            keep_alive=self.chance.random() < 0.5,
            hang_seconds=HANG_SECONDS,
            orphans=self.chance.random() < 0.2,
        )
        self.request_seconds = SLOW_REQUEST_SECONDS if slow else 5.0
        self.world = World(self.server, folder, token_file=self.chance.random() < 0.5)
        self.log: list[str] = []

    def run(self) -> None:
        self.peace(False)
        try:
            self.submitted()
            self.waited()
            self.told()
            self.deleted()
        except AssertionError as error:
            raise AssertionError(f"seed {self.seed}: {error}\n{chr(10).join(self.log)}") from error
        finally:
            self.world.close()

    def command(self, verb: str) -> Outcome:
        """One command, judged for time and secrets."""
        began, first = time.monotonic(), len(self.server.plan.drawn)
        done: Outcome = getattr(self.user, verb)(self.world)
        took = time.monotonic() - began
        self.server.settle()
        self.log.append(f"{verb}: exit {done.code} {done.verdict} {self.server.plan.drawn[first:]}\n{done.text}")
        assert took < COMMAND_SECONDS, f"{verb} took {took:.0f} s"
        for token in self.server.tokens:
            for secret in (token, base64.b64encode(token.encode()).decode()):
                assert secret not in done.text, f"{verb} tells {secret}"
        self.world.clock.sleep(self.chance.choice((0.0, 3.0)))
        return done

    def peace(self, at_peace: bool) -> None:
        """No more faults, and time enough for a busy machine; or faults again."""
        self.server.plan.at_peace = at_peace
        self.world.request_seconds = 5.0 if at_peace else self.request_seconds
        if at_peace:
            self.world.clock.skip(60)

    def names(self, plural: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.server.store.of(plural)}

    def whole(self) -> None:
        """No second job, and no job without its files."""
        made = self.server.operator.made.get(self.job, [])
        assert len(made) <= 1, f"{len(made)} jobs were made"
        if self.names("mpijobs"):
            assert self.names("configmaps") >= self.config_maps, "the job lacks its ConfigMap"

    def submitted(self) -> None:
        """Submit, two at once or one after another, until the job is there."""
        if self.chance.random() < 0.25 and self.pairs:
            self.two_at_once()
        for at_peace in (False, False, True):
            self.peace(at_peace)
            before = self.names("mpijobs") | self.names("configmaps")
            done = self.command("submit")
            self.whole()
            self.judge_submit(done, before)
            if done.code == 0 and self.chance.random() < 0.7:
                break
        self.peace(False)
        assert self.names("mpijobs"), "there is no job after a submit without faults"

    def judge_submit(self, done: Outcome, before: set[str]) -> None:
        """What submit says is so."""
        there = bool(self.names("mpijobs"))
        if done.code == 0:
            assert there, "submit says that there is a job"
        elif done.code == 1:
            assert there, f"submit says that a job stands in the way: {done.text}"
        elif self.job not in before and not done.in_doubt:
            assert not there, f"submit failed, but there is a job: {done.text}"
            left = {name for name in self.names("configmaps") - before if name not in done.text}
            assert not left, f"submit failed and left {left} without a word: {done.text}"

    def two_at_once(self) -> None:
        """Two submissions of the same job at the same time; each may lose, the job must be whole."""
        found: list[Any] = []

        def one() -> None:
            try:
                found.append(self.user.submit(self.world))
            except BaseException as error:
                found.append(error)

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(COMMAND_SECONDS)
        self.server.settle()
        self.log += [f"one of two submits: {each}" for each in found]
        assert len(found) == 2, "a submit hangs"
        assert all(isinstance(each, Outcome) for each in found), f"{found}"
        self.whole()
        assert self.names("mpijobs") or all(each.code for each in found)

    def waited(self) -> None:
        for at_peace in (False, False, True):
            self.peace(at_peace)
            done, truth = self.command("wait"), self.server.operator.phase(self.job)
            if done.code in (0, 1):
                assert (done.verdict, done.code) == (truth, int(truth != "Succeeded")), f"it is {truth}: {done}"
                break
            assert not at_peace, f"wait fails without faults: {done.text}"
        self.peace(False)

    def told(self) -> None:
        for at_peace in (False, True):
            self.peace(at_peace)
            done, truth = self.command("status"), self.server.operator.phase(self.job)
            if done.code == 0:
                assert done.verdict == truth, f"it is {truth}: {done}"
            else:
                assert done.code == 3, done
                assert not at_peace, f"status fails without faults: {done.text}"
        self.peace(False)

    def deleted(self) -> None:
        for at_peace in (False, False, True):
            self.peace(at_peace)
            done = self.command("delete")
            left = self.names("mpijobs") | self.names("pods") | self.names("configmaps")
            if done.code == 0:
                assert not left, f"delete leaves {left}"
            nothing = "nor anything that belonged to it" in done.text and not left  # it went by itself meanwhile
            assert not at_peace or done.code == 0 or nothing, f"delete fails without faults: {done.text}"
        assert len(self.server.operator.made[self.job]) == 1
        assert not left, f"after all, there is {left}"
