# SPDX-License-Identifier: Apache-2.0
"""What is read of a run's folder, also of one that is half-written, damaged or hostile."""

from __future__ import annotations

import json
import os
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from mpikit.report.run import read_run
from mpikit.report.sections import page_of, pictures_of
from mpikit.report.text import text_page
from mpikit.report.verdict import goodput, verdict_of, warnings_of
from tests.support.reported import START, TINY_JPEG, write_lines, write_reported

NOW = START + 1e6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_reported(tmp_path, "run", steps=2000, ranks=16, classes=10)


def test_a_whole_run_is_read(folder: Path) -> None:
    run = read_run(folder)
    assert verdict_of(run, NOW).sentence.startswith("Complete after 2,000 steps; top-1 ")
    assert [attempt.exit_code for attempt in run.attempts] == [6, 4, 6, 0]
    assert run.attempts[1].cause == "a rank hangs: rank 203 did not answer for 1800 s"
    assert len(run.ranks) == 16
    assert run.class_name(0) == "ibex"
    assert [one.marks for one in run.checkpoints] == ["", "best, last"]
    assert not run.absent
    assert all(not section.missing for section in page_of(run, NOW).sections)


def test_an_empty_folder_names_each_file_that_is_missing(tmp_path: Path) -> None:
    page = page_of(read_run(tmp_path), NOW)
    assert page.verdict == "Nothing was trained yet; no evaluation yet."
    reasons = {section.key: section.missing for section in page.sections}
    assert reasons["curves"] == "metrics.jsonl does not exist"
    assert reasons["goodput"] == "goodput.jsonl does not exist"
    assert reasons["classes"] == "evaluation/classes.json does not exist"
    assert [key for key, reason in reasons.items() if not reason] == ["warnings"]


@pytest.mark.parametrize(
    ("events", "attempts", "sentence", "good"),
    [
        ([{"event": "complete", "step": 90}, {"event": "phases", "seconds": {}}], [], "Complete after 90 steps", True),
        ([{"event": "resume", "step": 90}], [], "Not complete: at step 90 of 200", None),
        ([{"event": "stop", "step": 90}], [], "Stopped as asked at step 90 of 200; the state is saved", None),
        (
            [{"event": "error", "step": None, "exit_code": 5, "message": "loss is nan"}],
            [],
            "Failed at step 90 of 200 with exit code 5 (loss or gradient is not finite)",
            False,
        ),
        (
            [{"event": "checkpoint", "step": 90}],
            [{"attempt": 3, "exit_code": 6, "verdict": 10, "why": "3 attempts"}],
            "Failed at step 90 of 200 with exit code 10 (no restart is left, ",
            False,
        ),
        (
            [{"event": "checkpoint", "step": 90}],
            [{"attempt": 1, "exit_code": 6, "verdict": 10, "why": "old"}, {"attempt": 1, "exit_code": 6}],
            "Not complete: at step 90 of 200, last written ",
            None,
        ),
    ],
)
def test_the_verdict_says_how_a_run_ended(
    tmp_path: Path, events: list[dict[str, object]], attempts: list[dict[str, object]], sentence: str, good: bool | None
) -> None:
    write_lines(tmp_path / "metrics.jsonl", [{"step": 90, "loss": 1.0}])
    write_lines(tmp_path / "events.jsonl", events)
    write_lines(tmp_path / "attempts.jsonl", attempts)
    (tmp_path / "config.json").write_text('{"num_steps": 200}')
    (tmp_path / "completion.json").write_text('{"step": 90}')  # of the time before num_steps was raised
    verdict = verdict_of(read_run(tmp_path), NOW)
    assert verdict.sentence.startswith(sentence)
    assert verdict.good is good


def test_goodput_is_the_share_of_steps_that_count(tmp_path: Path) -> None:
    rows = [{"attempt": 1, "seconds": {"step": 60, "redone": 20, "init": 10}}, {"attempt": 2, "seconds": {"step": 10}}]
    write_lines(tmp_path / "goodput.jsonl", rows)
    assert goodput(read_run(tmp_path)) == pytest.approx(0.7)


def test_an_attempt_on_fewer_nodes_says_so(tmp_path: Path) -> None:
    write_lines(tmp_path / "attempts.jsonl", [{"attempt": 1, "kind": "lost nodes work again", "nodes": 1}])
    assert read_run(tmp_path).attempts[0].cause == "with 1 node; lost nodes work again"


def test_attempts_of_a_second_job_follow_those_of_the_first(tmp_path: Path) -> None:
    write_lines(tmp_path / "attempts.jsonl", [{"attempt": 1, "seconds": 5}, {"attempt": 1, "seconds": 7}])
    write_lines(
        tmp_path / "goodput.jsonl", [{"attempt": 1, "seconds": {"step": 1}}, {"attempt": 1, "seconds": {"step": 2}}]
    )
    found = [(one.number, one.seconds, one.spent) for one in read_run(tmp_path).attempts]
    assert found == [(1, 5.0, {"step": 1.0}), (2, 7.0, {"step": 2.0})]


def test_time_of_a_lost_launcher_counts_and_jobs_are_told_apart(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "attempts.jsonl",
        [{"job": "a", "attempt": 1, "time": 10, "seconds": 9}, {"job": "b", "attempt": 1, "time": 60, "seconds": 8}],
    )
    lines = [{"job": "b", "launcher": 0, "start": 52, "end": 52, "seconds": {}}]
    lines += [{"job": "a", "start": 10, "end": 30, "seconds": {"idle": 20}, "cause": "the launcher was lost"}]
    lines += [{"job": "b", "attempt": 1, "start": 52, "end": 62, "seconds": {"step": 5, "init": 5}}]
    write_lines(tmp_path / "goodput.jsonl", lines)
    run = read_run(tmp_path)
    found = [(one.number, one.seconds, one.cause, one.spent) for one in run.attempts]
    assert found == [
        (1, 9.0, "", {}),
        (2, 20.0, "the launcher was lost", {"idle": 20.0}),
        (3, 10.0, "", {"step": 5.0, "init": 5.0}),
    ]
    assert goodput(run) == pytest.approx(5 / 30)


def test_warnings_name_slow_hosts_waiting_and_a_lost_accuracy(folder: Path) -> None:
    rows = [{"step": 10, "step_seconds": 1.0, "data_seconds": 0.5, "top1_percent": 80.0, "damaged_images": 2}]
    write_lines(folder / "metrics.jsonl", [*rows, {"step": 20, "top1_percent": 70.0}])
    (folder / "ranks.json").write_text(
        '{"ranks": [{"rank": 4, "host": "node-b", "score": 0.5}, {"rank": 5, "score": 1}]}'
    )
    said = warnings_of(read_run(folder))
    assert "1 rank on node-b below 0.7 of the fastest rank's speed, or of their best" in said
    assert "50 % of the step time is spent on waiting for images; raise train.num_workers" in said
    assert "the last accuracy is 10.0 points below the best, of step 10" in said
    assert "2 training images could not be decoded" in said
    assert "rank 41 reads slowly" in said


def test_credentials_in_values_and_causes_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"data_path": "https://ada:hunter22@host/data?token=abcdefgh"}')
    write_lines(tmp_path / "attempts.jsonl", [{"attempt": 1, "cause": "password=hunter22 was refused"}])
    text = text_page(page_of(read_run(tmp_path), NOW), 80)
    assert "host/data" in text
    assert "hunter22" not in text
    assert "abcdefgh" not in text


def test_pictures_outside_of_the_folder_and_files_that_are_no_jpeg_are_left_out(folder: Path) -> None:
    secret = folder.parent / "secret.jpg"
    secret.write_bytes(TINY_JPEG)
    evaluation = folder / "evaluation"
    (evaluation / "link.jpg").symlink_to(secret)
    (evaluation / "page.jpg").write_bytes(b"<svg onload=alert(1)>")
    os.mkfifo(evaluation / "pipe.jpg")
    (evaluation / "fine.jpg").write_bytes(TINY_JPEG)
    names = ["../../secret.jpg", "link.jpg", "page.jpg", "pipe.jpg", str(secret), "", "a\0b", "fine.jpg"]
    samples = [{"file": name, "true": 1, "guesses": [[1, 0.5]], "attention": None} for name in names]
    (evaluation / "samples.json").write_text(json.dumps({"samples": samples}))
    assert [picture.jpeg for picture in pictures_of(read_run(folder))[0]] == [TINY_JPEG]


def test_a_file_that_is_a_pipe_or_too_large_is_a_reason(folder: Path) -> None:
    (folder / "ranks.json").unlink()
    os.mkfifo(folder / "ranks.json")
    with (folder / "events.jsonl").open("w") as file:
        file.truncate(65 << 20)
    run = read_run(folder)
    assert run.absent == {
        "ranks.json": "ranks.json is not a regular file",
        "events.jsonl": "events.jsonl has more than 65536 KiB",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("step", "event", "time", "attempt", "seconds", "ranks", "rank", "score", "host", "classes", "class", "images")
KEYS += ("top1", "pairs", "true", "predicted", "count", "samples", "guesses", "num_steps", "exit_code", "verdict")
OBJECT = st.dictionaries(st.sampled_from((*KEYS, "top1_percent", "loss", "files", "why", "name")), JSON, max_size=8)
NESTED = st.dictionaries(st.sampled_from(("ranks", "classes", "pairs", "samples")), st.lists(OBJECT, max_size=3))


@hypothesis.settings(
    max_examples=150, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(rows=st.lists(OBJECT, max_size=4), content=OBJECT | NESTED)
def test_no_content_of_the_files_stops_a_report(tmp_path: Path, rows: list[object], content: object) -> None:
    (tmp_path / "evaluation").mkdir(exist_ok=True)
    for name in ("metrics.jsonl", "events.jsonl", "attempts.jsonl", "goodput.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("config.json", "ranks.json", "completion.json", "evaluation/classes.json", "evaluation/samples.json"):
        (tmp_path / name).write_text(json.dumps(content))
    from mpikit.report.data import as_dict
    from mpikit.report.page import html_page

    run = read_run(tmp_path)
    page = page_of(run, NOW)
    assert text_page(page, 80)
    assert html_page(page, "1").endswith("</html>\n")
    json.dumps(as_dict(run, page), allow_nan=True)
