# SPDX-License-Identifier: Apache-2.0
"""The supervisor as a state machine: attempts, folders and time are a test's; what it says and leaves is compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vit.supervise.history import NAME, RunFiles
from vit.supervise.policy import Limits
from vit.supervise.supervisor import Supervisor

KILLED = "mpirun noticed that process rank 1 with PID 24 on node w-1 exited on signal 9 (Killed)."


@dataclass
class Script:
    """A Runner that plays attempts: what each leaves in the folder, prints and ends with."""

    folder: Path
    heard: Callable[[str], None]
    plays: list[tuple[int, list[str], int | None]]
    """Exit code, lines, and the step of the last checkpoint."""
    asked: int | None = None
    hangs: list[str] = field(default_factory=list)
    """Of each attempt: why the watchdog ended it."""
    stop_in_pause: int | None = None
    lines: Sequence[str] = ()
    pauses: list[float] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)

    @property
    def hang(self) -> str:
        return self.hangs[len(self.environments) - 1] if self.hangs else ""

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        code, self.lines, step = self.plays[len(self.environments)]
        self.environments.append(dict(environment))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(f"{len(self.environments)}")
        if step is not None:
            (self.folder / "last").write_text(f"step_{step:08d}\n")
        for line in self.lines:
            self.heard(line)
        return code

    def end_attempt(self) -> None:
        """The attempt ends when its play does."""

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.stop_in_pause == len(self.pauses):
            self.asked = 15


@dataclass
class Stage:
    """A supervisor over an output folder, and all that it said."""

    output: Path
    said: list[str] = field(default_factory=list)

    def play(
        self,
        *plays: tuple[int, list[str], int | None],
        job: str | None = "uid-1",
        growth: Any = None,
        **more: object,
    ) -> tuple[int, Script]:
        supervisor = Supervisor(RunFiles(self.output, "vit"), Limits(5, 900), job, self.said.append, lambda: 0.5)
        supervisor.growth = growth
        script = Script(self.output / "vit", supervisor.heard, list(plays), **more)  # type: ignore[arg-type]
        return supervisor.run(script, ["bash", "run_vit.sh"], {"HOME": "/"}), script

    def records(self) -> list[dict[str, object]]:
        lines = (self.output / "vit" / NAME).read_text().splitlines()
        return [record for line in lines if "attempt" in (record := json.loads(line))]

    def killed_launcher(self, step: int | None) -> None:
        """An attempt began, reached this checkpoint, and then its launcher was killed."""
        self.output.joinpath("vit").mkdir(parents=True, exist_ok=True)
        with (self.output / "vit" / NAME).open("a") as file:
            file.write(json.dumps({"time": 1.0, "job": "uid-1", "begin": 1}) + "\n")
        if step is not None:
            (self.output / "vit" / "last").write_text(f"step_{step:08d}\n")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_lost_rank_is_followed_by_a_restart_from_the_last_checkpoint(stage: Stage) -> None:
    code, script = stage.play((137, ["step=33/120 loss=2", KILLED], 20), (0, ["step=120/120 loss=1"], 120))
    assert code == 0
    assert "MPIKIT_RESTART" not in script.environments[0]
    assert script.environments[1] | {"MPIKIT_RESTART": "1", "MPIKIT_RESUME": "auto"} == script.environments[1]
    assert "attempt 1 ended after" in stage.said[0]
    assert stage.said[0].endswith(f"a rank or node was lost (exit code 137): {KILLED}")
    assert stage.said[1].endswith("continues from step 20, 13 steps are done again")
    assert stage.said[2] == "complete after 2 attempts"


def test_each_attempt_leaves_a_line_and_the_last_one_the_verdict(stage: Stage) -> None:
    stage.play((6, ["step=33/120 loss=2"], 20), (0, [], 120))
    first, last = stage.records()
    assert {name: first[name] for name in ("attempt", "exit_code", "checkpoint_after", "last_step", "steps_lost")} == {
        "attempt": 1,
        "exit_code": 6,
        "checkpoint_after": 20,
        "last_step": 33,
        "steps_lost": 13,
    }
    assert "verdict" not in first
    assert (last["attempt"], last["verdict"], last["job"]) == (2, 0, "uid-1")


def test_a_second_launcher_of_the_job_does_not_repeat_a_final_verdict(stage: Stage) -> None:
    assert stage.play((2, ["vit.train: --img_size: 7 is wrong, use 16"], None))[0] == 2
    code, script = stage.play()
    assert (code, script.environments) == (2, [])
    assert "ended it with exit code 2" in stage.said[-1]


def test_a_second_launcher_takes_over_the_budget(stage: Stage) -> None:
    plays = [(6, ["x"], None)] * 2
    stage.play(*plays, (137, ["y"], None), stop_in_pause=2)
    assert "attempt 3 of 6" in stage.said[-2]
    code, script = stage.play((6, ["z"], None))
    assert code == 10
    assert script.environments[0]["MPIKIT_RESTART"] == "2"
    assert "3 attempts in a row without a new checkpoint" in stage.said[-1]


def test_a_launcher_that_was_killed_counts_as_an_attempt(stage: Stage) -> None:
    stage.killed_launcher(40)
    code, script = stage.play((0, ["step=120/120 loss=1"], 120))
    assert code == 0
    assert script.environments[0]["MPIKIT_RESUME"] == "auto"
    first, last = stage.records()
    assert (first["kind"], first["exit_code"], first["checkpoint_after"]) == ("a rank or node was lost", 137, 40)
    assert (last["attempt"], last["verdict"]) == (2, 0)


def test_a_launcher_that_is_killed_again_and_again_without_a_checkpoint_is_given_up(stage: Stage) -> None:
    for _ in range(2):
        stage.killed_launcher(None)
        stage.play((6, ["x"], None), stop_in_pause=1)
    code, script = stage.play()
    assert (code, script.environments) == (10, [])


def test_another_job_on_the_same_folder_starts_with_a_whole_budget(stage: Stage) -> None:
    stage.play((6, ["x"], None), (6, ["x"], None), (6, ["x"], None))
    assert stage.play((6, ["x"], None), (0, [], 120), job="uid-2")[0] == 0


def test_a_stop_between_two_attempts_ends_with_143(stage: Stage) -> None:
    code, script = stage.play((6, ["x"], 20), (0, [], 120), stop_in_pause=1)
    assert (code, len(script.environments)) == (143, 1)


def test_a_stop_of_an_attempt_is_final_and_leaves_no_verdict(stage: Stage) -> None:
    code, _ = stage.play((143, ["vit.train: stopped as asked"], 20), asked=15)
    assert code == 143
    assert "verdict" not in stage.records()[0]
    assert stage.play((0, [], 120))[0] == 0


def test_an_attempt_that_the_watchdog_ended_is_a_hang_whatever_mpirun_says(stage: Stage) -> None:
    why = "rank 1 on w-1 is stopped (SIGSTOP)"
    code, _ = stage.play((137, [KILLED], 20), (0, [], 120), hangs=[why, ""])
    assert code == 0
    first = stage.records()[0]
    assert (first["exit_code"], first["kind"], first["cause"]) == (4, "a rank hangs", why)
    assert f"a rank hangs (exit code 4): {why}" in stage.said[0]


def test_without_an_output_folder_the_launcher_still_restarts(stage: Stage) -> None:
    supervisor = Supervisor(RunFiles(stage.output / "none", "vit"), Limits(5, 900), "u", stage.said.append, lambda: 0.5)
    script = Script(stage.output / "elsewhere", supervisor.heard, [(6, ["x"], None), (0, [], None)])
    assert supervisor.run(script, ["x"], {}) == 0
    assert script.environments[1]["MPIKIT_RESUME"] == "auto"
    assert not (stage.output / "none").exists()


def test_an_attempt_that_never_opened_the_folder_keeps_the_flag_resume(stage: Stage) -> None:
    """With --resume never, auto would continue the run that an earlier job left there."""
    supervisor = Supervisor(RunFiles(stage.output, "vit"), Limits(5, 900), "u", stage.said.append, lambda: 0.5)
    script = Script(stage.output / "elsewhere", supervisor.heard, [(6, ["x"], None), (0, [], None)])
    supervisor.run(script, ["x"], {})
    assert "MPIKIT_RESUME" not in script.environments[1]


@pytest.mark.parametrize(
    "damage", ['{"attempt": 1, "job": "uid-1"', '[1]\n"x"\n', "\x00\xff", '{"job": "uid-1", "verdict": "2"}']
)
def test_damaged_lines_are_passed_over(stage: Stage, damage: str) -> None:
    (stage.output / "vit").mkdir()
    (stage.output / "vit" / NAME).write_text(damage + "\n", encoding="utf-8", errors="surrogateescape")
    assert stage.play((0, [], 120))[0] == 0


FEWER = "run_vit.sh: goes on with 3 of 4 nodes (ranks: 24, the same global batch): worker 2 of 4 (w-1): refused"


@dataclass
class Grown:
    """A Growth that sees the nodes come back in the attempts with these numbers, from 1."""

    back: tuple[int, ...]
    begun: int = 0
    _asked: bool = False

    def begin(self, end_attempt: Callable[[], None]) -> None:
        self.begun += 1
        self._asked = self.begun in self.back

    def end(self) -> bool:
        asked, self._asked = self._asked, False
        return asked


def test_an_attempt_on_fewer_nodes_is_recorded_and_the_next_one_waits_for_less_long(stage: Stage) -> None:
    step = "step=33/120 loss=2"
    code, script = stage.play((6, [step], 20), (6, [FEWER, step], 40), (0, ["step=120/120 loss=1"], 120))
    assert code == 0
    assert [record.get("nodes") for record in stage.records()] == [None, 3, None]
    waits = [environment.get("MPIKIT_WAIT_SECONDS") for environment in script.environments]
    assert waits == [None, "900", "60"]


def test_nodes_that_are_back_end_an_attempt_without_using_the_budget(stage: Stage) -> None:
    growth = Grown(back=(1, 2))
    step, drained = "step=33/120 loss=2", "vit.train: vit: stopped as asked after step 34 of 120"
    few = [FEWER, step, drained]
    plays = ((6, [step], 20), (143, few, 34), (143, few, 50), (143, [step, drained], 60), (0, [], 120))
    code, _ = stage.play(*plays, growth=growth)
    assert code == 0
    kinds = [record["kind"] for record in stage.records()]
    assert kinds == ["a rank or node was lost", *["lost nodes work again"] * 2, "a worker was drained", "complete"]
    assert growth.begun == 2


def test_nodes_are_looked_after_only_once_the_ranks_train_on_fewer(stage: Stage) -> None:
    growth = Grown(back=())
    stage.play((6, [FEWER], 20), (6, ["step=3/120 loss=2"], 30), (0, [FEWER, "step=40/120 loss=2"], 120), growth=growth)
    assert growth.begun == 1
