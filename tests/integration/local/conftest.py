# SPDX-License-Identifier: Apache-2.0
"""Jobs on this machine: the real scripts, real mpirun (Open MPI 4 and 5), the real trainer on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# scripts/test makes this environment: the wheel of Open MPI 4, beside that of Open MPI 5 in the project's own.
OPEN_MPI = {"4": ROOT / ".venv-openmpi4" / "bin", "5": Path(sys.executable).parent}


@pytest.fixture(params=["4", "5"])
def open_mpi(request: pytest.FixtureRequest) -> Path:
    """The folder of mpirun of this major release."""
    folder = OPEN_MPI[request.param]
    if not (folder / "mpirun").exists():
        pytest.skip(f"no Open MPI {request.param} in {folder.relative_to(ROOT)}; scripts/test installs it")
    return folder


class Run:
    """`generate.py run` of a job, as a user starts it; the first failure ends it unless settings say otherwise."""

    def __init__(self, open_mpi: Path, output: Path, *settings: str) -> None:
        self.output = output
        own = ("user=ada", f"output={output}", "restarts.max=0", *settings)
        words = [word for setting in own for word in ("--set", setting)]
        self.command = [
            *(sys.executable, str(ROOT / "generate.py"), "run", "--no-user-file", "-f", "cpu.yaml", "--nodes", "2"),
            *words,
        ]
        self.environment = os.environ | {"PATH": f"{open_mpi}{os.pathsep}{os.environ['PATH']}"}

    def to_its_end(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )

    def started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(self, process: subprocess.Popen[str], true: Callable[[], bool], seconds: float = 240) -> None:
        """Come back when `true` is; fail after `seconds`, or when the job ended before, with what it said."""
        end = time.monotonic() + seconds
        while not true():
            if process.poll() is not None or time.monotonic() > end:
                state = f"ended with {process.poll()}" if process.poll() is not None else "still runs"
                process.terminate()
                pytest.fail(f"it did not happen in {seconds} s; the job {state} and said:\n{process.communicate()[1]}")
            time.sleep(0.1)


@pytest.fixture
def job(open_mpi: Path, tmp_path: Path) -> Callable[..., Run]:
    return lambda *settings: Run(open_mpi, tmp_path / "results", *settings)


def ranks_of(output: Path) -> list[int]:
    """Process ids of the ranks that train into `output`, without the loader processes that they fork."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"vit.train" in words and b"-m" in words and str(output).encode() in words:
            parents[int(folder.name)] = parent
    return [pid for pid, parent in parents.items() if parent not in parents]


@pytest.fixture(autouse=True)
def _leaves_no_rank_behind(tmp_path: Path) -> Iterator[None]:
    yield
    left = ranks_of(tmp_path / "results")
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "ranks outlived their job"
