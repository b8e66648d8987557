# SPDX-License-Identifier: Apache-2.0
"""What run_vit.sh passes on of mpirun's stderr."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from mpikit.render.renderer import Rendered

RULE = "-" * 74


def passed_on(render_job: Callable[..., Rendered], text: str) -> str:
    script = render_job("cards=1").scripts["run_vit.sh"]
    content = script.decode() if isinstance(script, bytes) else script
    functions = re.findall(r"^(?:without_noise|says_stopped)\(\) \{.*?^\}$", content, re.MULTILINE | re.DOTALL)
    assert len(functions) == 2
    command = ["bash", "-c", "set -euo pipefail\n" + "\n".join([*functions, "without_noise"])]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60).stderr


def report(exit_code: int) -> str:
    """mpirun's report of a rank that ended so; Open MPI 5.0.11."""
    return (
        f"{RULE}\nprterun detected that one or more processes exited with non-zero status,\n"
        "thus causing the job to be terminated. The first process to do so was:\n\n"
        f"   Process name: [prterun-host-7@1,0]\n   Exit code:    {exit_code}\n{RULE}\n"
    )


@pytest.mark.parametrize(
    "noise",
    [
        "[W1126 02:00:00.1 socket.cpp:767] [c10d] The hostname of the client socket cannot be retrieved. err=-3\n",
        "[o5-launcher:00012] plm:ssh: Warning: setpgid(27,27) failed in parent with errno=Permission denied(13)\n",
        "mpirun: Forwarding signal 10 to job\n",
        report(143),
        f"{RULE}\nPrimary job  terminated normally, but 1 process returned\na non-zero exit code.\n{RULE}\n",
    ],
)
def test_noise_is_left_out_and_the_lines_around_it_stay(render_job: Callable[..., Rendered], noise: str) -> None:
    assert passed_on(render_job, f"before\n{noise}\n  after, without a line end") == (
        "before\n\n  after, without a line end\n"
    )


def test_the_report_of_any_other_end_stays(render_job: Callable[..., Rendered]) -> None:
    text = report(1) + f"{RULE}\nthe user's own table\n{RULE}\nvit.train: done\n"
    assert passed_on(render_job, text) == text


def test_a_ranks_line_in_the_middle_of_a_report_stays(render_job: Callable[..., Rendered]) -> None:
    line = "vit.train: digits: stopped as asked after step 7 of 9"
    assert passed_on(render_job, report(143).replace("\n\n", f"\n{line}\n\n")) == f"{line}\n"


def test_a_report_that_is_cut_off_stays(render_job: Callable[..., Rendered]) -> None:
    half = report(143)[:120] + "\n"
    assert passed_on(render_job, half) == half
