# SPDX-License-Identifier: Apache-2.0
"""The verb report: where the run is found, the three formats, two runs, and what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.reported import write_reported


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_reported(tmp_path / "output", "flowers", steps=2000, ranks=16, classes=10)
    write_reported(tmp_path / "output", "roses", steps=1000, ranks=8, classes=10)
    return tmp_path / "output"


def test_a_run_is_found_by_its_path_and_by_its_name(output: Path, generate: Command) -> None:
    by_path = generate("report", str(output / "flowers"))
    by_name = generate("report", "flowers", "--set", f"output={output}", "--set", "user=ada")
    own = generate("report", "--set", f"output={output}", "--set", "user=ada", "--set", "train.name=flowers")
    assert by_path.returncode == 0, by_path.stderr
    assert by_path.stdout.startswith("flowers\nComplete after 2,000 steps; top-1 ")
    assert by_path.stdout == by_name.stdout == own.stdout
    assert max(map(len, by_path.stdout.splitlines())) <= 120


def test_json_has_every_line_of_the_metrics(output: Path, generate: Command) -> None:
    found = json.loads(generate("report", str(output / "flowers"), "-o", "json").stdout)
    assert [row["step"] for row in found["metrics"]] == list(range(50, 2001, 50))
    assert found["complete"] is True
    assert len(found["ranks"]) == 16
    assert found["changed"]["num_steps"] == 2000
    assert found["command"].startswith("python -m vit.train --name=flowers ")
    assert {row["section"] for row in found["missing"]} == {"samples", "attention"}


def test_the_name_of_the_file_decides_the_format(output: Path, tmp_path: Path, generate: Command) -> None:
    done = generate("report", str(output / "flowers"), "--out", str(tmp_path / "report.html"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"report: {tmp_path / 'report.html'}\n"
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>\n")
    assert "data:image/jpeg" in page
    generate("report", str(output / "flowers"), "--out", str(tmp_path / "report.html"), "--no-images")
    assert "data:image/jpeg" not in (tmp_path / "report.html").read_text()


def test_two_runs_are_compared(output: Path, generate: Command) -> None:
    done = generate("report", str(output / "flowers"), str(output / "roses"))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["num_steps", "2000", "1000"] in rows
    assert ["steps", "2,000", "1,000", "-1,000"] in rows
    assert "* flowers  o roses" in done.stdout
    found = json.loads(generate("report", str(output / "flowers"), str(output / "roses"), "-o", "json").stdout)
    assert [run["name"] for run in found["runs"]] == ["flowers", "roses"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("nowhere", "--set", "output=/missing", "--set", "user=ada"),
            1,
            "python generate.py report nowhere --cluster",
        ),
        (("a/b", "--cluster"), 2, '"a/b" is not the name of a run on the cluster'),
        (("{output}",), 1, "does not contain a run: it has no config.json and no metrics.jsonl"),
        (("a", "b", "c"), 2, "more than two runs cannot be compared"),
        (("{output}/flowers", "--out", "{output}/flowers"), 1, "--out FILE, in a folder that you may write to"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_fix(
    words: tuple[str, ...], code: int, said: str, output: Path, generate: Command
) -> None:
    done = generate("report", *(word.replace("{output}", str(output)) for word in words))
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 2
