# SPDX-License-Identifier: Apache-2.0
"""The loop over attempts: run, classify, decide, wait, run again. Everything that acts comes in as an argument."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vit.errors import EXIT_CODES
from vit.supervise.endings import BACK, COMPLETE, DRAINED, HANG, LOST, STOPPED, Ending, classify
from vit.supervise.goodput import Ledger
from vit.supervise.growth import Growth
from vit.supervise.history import RunFiles, attempts_of, verdict_of
from vit.supervise.nodes import Nodes
from vit.supervise.policy import Attempt, Decision, Limits, decide
from vit.supervise.workers import SELDOM_SECONDS, Replacer

SHORT_WAIT_SECONDS = 60  # for nodes without which the job went on before
KILLED = 137  # exit code of a process that SIGKILL ended
_STEP = re.compile(r"step=(\d+)/\d+ ")
_FEWER = re.compile(r"run_vit\.sh: goes on with (\d+) of \d+ nodes ")
_NAMED_STEP = re.compile(r"\bstep (\d+)\b")


class Runner(Protocol):
    """What runs an attempt: vit.supervise.process.Attempts, or a test's."""

    asked: int | None

    @property
    def hang(self) -> str:
        """Why the watchdog ended the attempt; empty if it did not."""

    @property
    def lines(self) -> Sequence[str]:
        """The last lines of the attempt."""

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run the command; return its exit code."""

    def pause(self, seconds: float) -> None:
        """Wait, unless asked to stop."""

    def end_attempt(self) -> None:
        """Ask the attempt to end; its ranks save their state."""


@dataclass
class Supervisor:
    """One job's launcher."""

    files: RunFiles
    limits: Limits
    job: str | None
    """uid of the launcher's Job, which all its launcher pods share; None outside a cluster."""
    say: Callable[[str], None]
    chance: Callable[[], float]
    clock: Callable[[], float] = time.time
    stopwatch: Callable[[], float] = time.monotonic
    age_seconds: float = 0.0
    """For how long the launcher has run already."""
    replacer: Replacer | None = None
    nodes: Nodes | None = None
    growth: Growth | None = None
    """Takes lost nodes back; None if the job never goes on without them."""
    ledger: Ledger = field(init=False)
    attempts: list[Attempt] = field(default_factory=list)
    last_step: int | None = None
    num_nodes: int | None = None
    """With how many nodes the attempt goes on, if not with all."""
    at_first_step: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        """Open the account of the job's seconds."""
        self.ledger = Ledger(self.files, self.job, self.age_seconds, self.clock)

    def heard(self, line: str) -> None:
        """Take what a line says of steps and workers."""
        self.ledger.heard(line)
        if fewer := _FEWER.match(line):
            self.num_nodes = int(fewer[1])
        if found := _STEP.match(line):
            self.last_step = int(found[1])
            if self.at_first_step:
                self.at_first_step()
                self.at_first_step = None
            if account := self.ledger.due():
                self.say(account)
                for sentence in self.nodes.sentences() if self.nodes else ():
                    self.say(sentence)

    def run(self, runner: Runner, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Return the exit code of the job."""
        records = self.files.records(self.job)
        if verdict := verdict_of(records):
            self.say(
                f"an earlier launcher of this Job ended it with exit code {verdict[0]}: {verdict[1] or 'complete'}"
            )
            return verdict[0]
        self.attempts = attempts_of(records)
        self.ledger.open()
        if records and "begin" in records[-1] and (decision := self._cut(records[-1])).exit_code is not None:
            return self._end(decision)
        if self.attempts:
            self.say(f"this launcher takes over after attempt {self.attempts[-1].number}")
        took_over = bool(self.attempts)
        mark = self.files.config_mark()
        while True:
            opened = took_over or self.files.config_mark() != mark or not self.files.mounted
            attempt = self._try(runner, command, {**environment, **self._more(opened)})
            self.attempts.append(attempt)
            decision = decide(self.attempts, self.limits, self.chance())
            self._record(attempt, decision)
            if decision.exit_code is not None:
                return self._end(decision)
            self._announce(attempt, decision)
            runner.pause(decision.pause_seconds)
            if runner.asked is not None:
                self.ledger.close()
                self.say("asked to stop between two attempts: the last checkpoint stays")
                return EXIT_CODES["stopped"]

    def _cut(self, begin: Mapping[str, Any]) -> Decision:
        """Record the attempt during which an earlier launcher of this Job was killed; return what follows."""
        before = self.attempts[-1].checkpoint_after if self.attempts else None
        number, began = len(self.attempts) + 1, begin.get("time")
        seconds = max(0.0, self.clock() - began) if isinstance(began, (int, float)) else 0.0
        ending = Ending(LOST, KILLED, "the launcher was killed, or lost with its node")
        self.attempts.append(Attempt(number, ending, seconds, before, self.files.checkpoint_step(), None))
        decision = decide(self.attempts, self.limits, self.chance())
        self._record(self.attempts[-1], decision)
        return decision

    def _more(self, opened: bool) -> dict[str, str]:
        """Return the variables of a restart; `opened`: the run's folder is that of the earlier attempts."""
        if not self.attempts:
            return {}
        wait = self.limits.wait_seconds
        if self.attempts[-1].nodes is not None:
            wait = min(wait, SHORT_WAIT_SECONDS)
        own = {"MPIKIT_RESTART": str(len(self.attempts)), "MPIKIT_WAIT_SECONDS": str(wait)}
        return own | ({"MPIKIT_RESUME": "auto"} if opened else {})

    def _try(self, runner: Runner, command: Sequence[str], environment: Mapping[str, str]) -> Attempt:
        self.ledger.begin()
        number = self.attempts[-1].number + 1 if self.attempts else 1
        self.files.add({"time": round(self.clock(), 3), "job": self.job, "begin": number})
        before, started = self.files.checkpoint_step(), self.stopwatch()
        self.last_step, self.num_nodes = before, None
        if self.replacer and self.attempts:
            self.replacer.start()
        self.at_first_step = lambda: self._all_start(runner)
        code = runner.run(command, environment)
        if self.replacer:
            self.replacer.stop()
        grows = self.growth is not None and self.growth.end()
        ending = classify(code, runner.lines, asked=runner.asked is not None)
        if grows and ending.kind is DRAINED:
            ending = Ending(BACK, code, "")
        if runner.hang and ending.kind is not STOPPED:
            ending = Ending(HANG, EXIT_CODES["hang"], runner.hang)
        last = self._step_of(ending)
        after = self.files.checkpoint_step()
        attempt = Attempt(number, ending, self.stopwatch() - started, before, after, last, self.num_nodes)
        self.ledger.ended(attempt)
        if self.nodes:
            self.nodes.failed(number, ending, runner.lines)
        return attempt

    def _all_start(self, runner: Runner) -> None:
        """The ranks train: look after the workers that are missing, if any."""
        if self.replacer:
            self.replacer.stop()
            if self.num_nodes is not None:
                self.replacer.start(SELDOM_SECONDS)
        if self.growth and self.num_nodes is not None:
            self.growth.begin(runner.end_attempt)

    def _step_of(self, ending: Ending) -> int | None:
        """Return the last step that is known: that of the cause, or of the last progress line."""
        named = _NAMED_STEP.search(ending.cause)
        return int(named[1]) if named else self.last_step

    def _record(self, attempt: Attempt, decision: Decision) -> None:
        line: dict[str, Any] = {"time": round(self.clock(), 3), "job": self.job} | attempt.record()
        if decision.exit_code is not None and attempt.ending.kind is not STOPPED:
            line |= {"verdict": decision.exit_code, "why": decision.why}
        self.files.add(line)

    def _announce(self, attempt: Attempt, decision: Decision) -> None:
        ending = attempt.ending
        cause = f": {ending.cause}" if ending.cause else ""
        step = attempt.checkpoint_after
        place = f"from step {step}" if step is not None else "from the last checkpoint, if any"
        lost = f", {attempt.steps_lost} steps are done again" if attempt.steps_lost else ""
        what = f"{ending.kind.name} (exit code {ending.code}){cause}"
        self.say(f"attempt {attempt.number} ended after {attempt.seconds:.0f} s: {what}")
        pause = f"starts in {decision.pause_seconds:.0f} s"
        self.say(f"attempt {attempt.number + 1} of {self.limits.max + 1} {pause} and continues {place}{lost}")

    def _end(self, decision: Decision) -> int:
        assert decision.exit_code is not None
        self.ledger.close()
        if account := self.ledger.sentence():
            self.say(account)
        code, kind = decision.exit_code, self.attempts[-1].ending.kind
        if len(self.attempts) > 1 and kind is COMPLETE:
            self.say(f"complete after {len(self.attempts)} attempts")
        elif decision.why and kind not in (COMPLETE, STOPPED):
            self.say(f"not started again: {decision.why} (exit code {code})")
        return code
