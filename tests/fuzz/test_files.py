# SPDX-License-Identifier: Apache-2.0
"""Files that cost time or memory, or are no files at all, in the place of values: each is named in a line.

Most go through the command within this process; bench/hostile_files.py runs a process for each and shows the times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command
from tests.support.hostile.files import FILES, MANY

Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_in_a_line_that_says_what_it_is(generate: Command, tmp_path: Path, name: str) -> None:
    make, said = FILES[name]
    make(tmp_path / "values.yaml")
    done = generate(
        "-f", "cpu.yaml", "--set", "output=/tmp", "--set", "image=site/vit:1", "-f", str(tmp_path / "values.yaml")
    )
    faults = [line for line in done.stderr.splitlines() if not line.startswith(("  fix: ", "warning: "))]
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(faults[0]) < 1000
    assert len(faults) == 1 or (name in MANY and len(faults) <= 101)


@pytest.mark.parametrize("name", ["alias bomb", "10 MB of one value", "10,000 braces deep", "a pipe", "a terminal"])
def test_a_process_of_its_own_says_the_same(generate_process: Process, tmp_path: Path, name: str) -> None:
    make, said = FILES[name]
    make(tmp_path / "values.yaml")
    done = generate_process("-f", str(tmp_path / "values.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"nodes: \xff\n", "standard input:1:8: not UTF-8 text"),
        (b"nodes: 1\0\n", "standard input:1:9: a NUL character"),
        (b"x" * (2 << 20), "standard input: longer than 1 MiB"),
    ],
)
def test_standard_input_is_read_as_strictly_as_a_file(sent: bytes, said: str) -> None:
    command = [sys.executable, str(ROOT / "generate.py"), "--no-user-file", "-f", "cpu.yaml", "-f", "-"]
    done = subprocess.run(command, input=sent, capture_output=True, env=os.environ | {"LOGNAME": "ada"}, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()


@pytest.mark.parametrize("name", ["a pipe", "an endless device", "latin-1", "a folder", "a sparse file of 10 GiB"])
def test_a_manifest_is_read_as_strictly_as_values(generate: Command, tmp_path: Path, name: str) -> None:
    make, said = FILES[name]
    make(tmp_path / "job.yaml")
    done = generate("check", "--manifest", str(tmp_path / "job.yaml"))
    assert done.returncode == 2
    assert said in done.stderr


def test_a_name_that_no_file_can_have_is_a_file_that_cannot_be_read(generate: Command) -> None:
    done = generate("-f", "x" * 300)
    assert done.returncode == 2
    assert "cannot be read: File name too long" in done.stderr
