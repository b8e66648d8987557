# SPDX-License-Identifier: Apache-2.0
"""metrics.jsonl as TensorBoard reads it, of complete, growing and resumed runs; and the program that serves it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard", reason="no tensorboard: pip install tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # after the skip

from tests.support.running import ROOT, clean_environment, free_port
from vit.run.metrics import metric_line
from vit.tensorboard.events import EventFile, find_runs

SECONDS = 120.0  # that a busy machine may need


def write_lines(run: Path, *steps: int, **more: float) -> None:
    run.mkdir(parents=True, exist_ok=True)
    with (run / "metrics.jsonl").open("a") as file:
        for step in steps:
            values = {"step": step, "loss": 10.0 / step, "step_seconds": 2.0, "eval_seconds": 5.0, **more}
            file.write(metric_line(values) + "\n")


def read(folder: Path) -> Any:
    return EventAccumulator(str(folder)).Reload()


def steps_of(folder: Path) -> list[int]:
    return [event.step for event in read(folder).Scalars("loss")]


def test_each_measured_value_of_each_line_is_a_scalar(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", 10, 20, learning_rate=0.5)
    assert EventFile(tmp_path / "a", tmp_path / "board").update() == 2
    board = read(tmp_path / "board")
    assert set(board.Tags()["scalars"]) == {"loss", "step_seconds", "eval_seconds", "learning_rate"}
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(10, 1.0), (20, 0.5)]


def test_the_time_of_a_line_follows_from_the_seconds_of_its_steps(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", 10, 30)
    EventFile(tmp_path / "a", tmp_path / "board").update()
    first, last = read(tmp_path / "board").Scalars("loss")
    assert last.wall_time == pytest.approx((tmp_path / "a/metrics.jsonl").stat().st_mtime, abs=1)
    assert last.wall_time - first.wall_time == pytest.approx(20 * 2.0 + 5.0)


def test_a_growing_run_is_followed_and_damaged_lines_are_left_out(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", 10)
    file = EventFile(tmp_path / "a", tmp_path / "board")
    assert (file.update(), file.update()) == (1, 0)
    with (tmp_path / "a/metrics.jsonl").open("a") as lines:
        lines.write('{"step": 1\n')
    write_lines(tmp_path / "a", 20)
    assert file.update() == 1
    assert steps_of(tmp_path / "board") == [10, 20]


def test_a_run_that_resumed_from_an_earlier_step_shows_each_step_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", 10, 20, 30)
    file = EventFile(tmp_path / "a", tmp_path / "board")
    file.update()
    (tmp_path / "a/metrics.jsonl").unlink()
    assert file.update() == 0  # between two files of the name
    write_lines(tmp_path / "a", 10, 15, 25)
    assert file.update() == 2
    assert steps_of(tmp_path / "board") == [10, 15, 25]


def test_a_step_that_was_evaluated_again_later_is_followed_too(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", 10, 10)
    file = EventFile(tmp_path / "a", tmp_path / "board")
    assert file.update() == 2
    write_lines(tmp_path / "a", 20)
    assert file.update() == 1


def test_a_folder_of_runs_stands_for_all_of_them(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_lines(tmp_path / name, 1)
    (tmp_path / "empty").mkdir()
    assert find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_runs(tmp_path / "b") == [tmp_path / "b"]
    assert find_runs(tmp_path / "empty") == []


# The program


@contextmanager
def serving(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "vit.tensorboard", *words]
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), text=True, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(port: str, path: str) -> Any:
    """JSON of the server, once it is there and has something to say."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as found:
                content = json.load(found)
            if content or time.monotonic() > until:
                return content
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.5)


def test_the_server_has_the_scalars_of_a_run_that_starts_after_it_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    with serving(str(tmp_path / "a"), "--port", port, "--wait") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"TensorBoard: http://127.0.0.1:{port}/ (Ctrl-C ends it)\n"
        write_lines(tmp_path / "a", 10, 20)
        assert answer(port, "/data/runs") == ["a"]
        scalars = answer(port, "/data/plugin/scalars/scalars?run=a&tag=loss")
        assert [(step, value) for _, step, value in scalars] == [(10, 1.0), (20, 0.5)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"metrics.jsonl"}


def test_what_cannot_be_shown_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, code, said in (
        ([str(tmp_path / "empty")], 8, "contains no metrics.jsonl, nor does a folder in it, give output/NAME"),
        ([str(tmp_path / "none")], 8, f"vit.tensorboard: {tmp_path}/none: contains no metrics.jsonl"),
        ([str(tmp_path / "empty"), "--port", "70000"], 2, "--port: 70000 is not a port"),
    ):
        with serving(*words) as process:
            assert process.stderr is not None
            text = process.stderr.read()
            assert (process.wait(SECONDS), text.count("\n")) == (code, 1)
        assert said in text


def test_a_port_in_use_is_one_error(tmp_path: Path) -> None:
    import socket

    write_lines(tmp_path / "a", 1)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        with serving(str(tmp_path / "a"), "--port", str(held.getsockname()[1])) as process:
            assert process.stderr is not None
            text = process.stderr.read()
            assert process.wait(SECONDS) == 2
    assert text.startswith("vit.tensorboard: --port: ")
    assert text.endswith("give another --port, or leave it out\n")
    assert text.count("\n") == 1
