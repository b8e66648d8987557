# SPDX-License-Identifier: Apache-2.0
"""What the kit's tests share: values without anybody's own file, jobs made of settings, the real command."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mpikit.config.job import Job
from mpikit.config.loader import load_job
from mpikit.config.values import load_values
from mpikit.diagnostics import Diagnostic, Finding
from mpikit.errors import KitError
from mpikit.render.payload import Payload
from mpikit.render.renderer import Rendered, render
from tests.support.plain_words import lint, words_of

ROOT = Path(__file__).resolve().parents[1]
STUB = Payload({"vit/__init__.py": b""})
"""A trainer of one empty file: goldens must not change with every line of the real one."""


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/contract/golden/ from what is rendered now"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Property tests start from a seed that is printed at the end."""
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(random.randrange(2**32))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.write_line(
        f"property tests: --hypothesis-seed={config.getoption('--hypothesis-seed')} repeats them"
    )


@pytest.fixture(autouse=True)
def plain_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every diagnostic, error and verdict that a test causes is in plain words (tests/support/plain_words.py)."""
    found: list[str] = []

    def watch(kind: type[Any], faults: Callable[[Any], list[str]]) -> None:
        create = kind.__init__

        def created(self: Any, *fields: Any, **named: Any) -> None:
            create(self, *fields, **named)
            found.extend(faults(self))

        monkeypatch.setattr(kind, "__init__", created)

    watch(Diagnostic, lint)
    watch(KitError, lambda error: words_of(error.message) + words_of(error.hint))
    watch(Finding, lambda finding: words_of(finding.message) + words_of(finding.advice))
    yield
    assert sorted(set(found)) == []


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
def generate(values_root: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command generate.py, run as the user ada and within this process: a new one costs a quarter of a second."""
    sys.path.insert(0, str(ROOT))
    import generate as module

    def run(*arguments: str, stdin: str = "", login: str = "ada") -> Done:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), io.StringIO()
        monkeypatch.setenv("LOGNAME", login)
        monkeypatch.setattr(sys, "argv", ["generate.py", "--values-root", str(values_root), *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = module.main()
        out.flush()
        return Done(code, out.buffer.getvalue().decode(), err.getvalue())  # type: ignore[attr-defined]  # BytesIO

    return run


@pytest.fixture
def generate_process(values_root: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "generate.py"), "--values-root", str(values_root), *arguments]
        variables = os.environ | {"LOGNAME": "ada"} | environment
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", env=variables, timeout=60, check=False
        )

    return run
