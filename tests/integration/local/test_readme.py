# SPDX-License-Identifier: Apache-2.0
"""Every command of the pages that needs no cluster, run as it stands there in a copy of the project."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


def commands(page: str) -> list[str]:
    """The lines of the blocks marked `sh`: those marked `sh cluster` or `sh machine` need what is not here."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files as a clone has them, with this environment in the place of a new .venv."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    files = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, files.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def start(copy: Path, command: str) -> subprocess.Popen[str]:
    path = f"{ROOT}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=copy,
        env=os.environ | {"PATH": path, "LOGNAME": "ada"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(copy: Path, command: str) -> subprocess.CompletedProcess[str]:
    with start(copy, command) as process:
        out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def rows_of(copy: Path) -> list[dict[str, Any]]:
    """The metrics of the demo's run so far, without a line that is being written."""
    with contextlib.suppress(FileNotFoundError):
        lines = (copy / "output/digits/metrics.jsonl").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    return []


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_work_as_they_stand(copy: Path, page: str) -> None:
    (copy / "values" / "user.yaml").unlink(missing_ok=True)
    for command in commands(page):
        done = run(copy, command)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_demo_learns_resumes_and_starts_anew_only_when_asked(copy: Path) -> None:
    shutil.rmtree(copy / "output", ignore_errors=True)
    first = run(copy, "scripts/demo")
    assert first.returncode == 0, first.stderr
    top1 = re.search(r"top-1 ([\d.]+) % at step 1500", first.stderr)
    assert top1, first.stderr
    assert float(top1[1]) >= 95
    assert "2 nodes x 1 cpu = 2 ranks" in first.stderr
    evaluations = re.findall(r"^step=(\d+)/1500 loss=\S+ top1=\S+% ", first.stderr, re.MULTILINE)
    assert evaluations == ["250", "500", "750", "1000", "1250", "1500"]
    assert not re.search(
        r"\b0(\.0+)? (GiB|MiB|GB|GFLOP)|\b1 (ranks|threads|nodes)\b|[\r\x1b]", first.stderr + first.stdout
    )
    report = (copy / "output/digits/report.html").read_text()
    assert re.search(r'<p class="verdict good">Complete after 1,500 steps; top-1 [\d.]+ %', report)
    assert "report       output/digits/report.html" in first.stdout
    assert report.count("data:image/jpeg;base64,") == 30, "24 held-out digits, and the attention maps of 6"
    assert "* training  o validation" in first.stdout
    assert "images/s in training" in first.stdout

    metrics = (copy / "output/digits/metrics.jsonl").read_bytes()
    second = run(copy, "scripts/demo")
    assert second.returncode == 0
    assert "is complete" in second.stderr
    assert "run_vit.sh" not in second.stderr, "the ranks were started again"
    assert (copy / "output/digits/metrics.jsonl").read_bytes() == metrics

    with start(copy, "scripts/demo --fresh") as third:
        while not (rows := rows_of(copy)) or rows[-1]["step"] == 1500:
            assert third.poll() is None, third.communicate()[1]
            time.sleep(0.2)
        assert rows[0]["step"] < 100
        os.killpg(third.pid, signal.SIGTERM)
        third.communicate(timeout=120)
    assert (copy / "output/digits.previous-1/metrics.jsonl").read_bytes() == metrics
