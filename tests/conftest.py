"""What the kit's tests share: values without anybody's own file, jobs made of settings, the real command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.job import Job
from mpikit.payload import Payload
from mpikit.render import Rendered, render
from mpikit.rules import load_job
from mpikit.values import load_values

ROOT = Path(__file__).resolve().parent.parent
STUB = Payload({"vit/__init__.py": b""})
"""A trainer of one empty file: goldens must not change with every line of the real one."""

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/ from what is rendered now")


@pytest.fixture(scope="session")
def values_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped values files, without a values/user.yaml that a developer may have."""
    folder = tmp_path_factory.mktemp("root") / "values"
    shutil.copytree(ROOT / "values", folder, ignore=shutil.ignore_patterns("user.yaml"))
    return folder


@pytest.fixture
def make_job(values_root: Path) -> Callable[..., Job]:
    """A job of the user ada out of values files and `key=value` settings."""

    def make(*settings: str, files: tuple[str, ...] = ()) -> Job:
        flags = [("--set", "user=ada"), *(("--set", setting) for setting in settings)]
        return load_job(load_values(values_root, files, flags))[0]

    return make


@pytest.fixture
def render_job(make_job: Callable[..., Job]) -> Callable[..., Rendered]:
    """What a job renders to, with the stub trainer."""
    return lambda *settings, **more: render(make_job(*settings, **more), STUB)


@pytest.fixture
def generate(values_root: Path) -> Command:
    """Run the real generate.py as the user ada."""

    def run(
        *arguments: str, stdin: str = "", login: str = "ada", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "generate.py"), "--values-root", str(values_root), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=os.environ | {"LOGNAME": login} | environment,
            timeout=60,
            check=False,
        )

    return run
