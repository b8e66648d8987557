# SPDX-License-Identifier: Apache-2.0
"""The wheel: what is in it, and that its command works in an empty folder, far from any checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpikit.resources import version

ROOT = Path(__file__).resolve().parents[2]
HEAD = ("--no-user-file", "--set", "user=ada")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into. Its dependencies are those of the tests' own environment."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    (source / "values" / "user.yaml").write_text("user: somebody\n")  # of whoever builds the wheel
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if int(importlib.metadata.version("setuptools").split(".")[0]) >= 77:
        words.append("--no-build-isolation")
    subprocess.run([*words, "--target", str(target), str(source)], check=True)
    return target


@pytest.fixture
def command(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    return [sys.executable, str(installed / "bin" / "vit-mpijob")]


def run(command: list[str], *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_every_package_is_in_the_wheel(installed: Path) -> None:
    expected = {name for name in tracked() if name.startswith(("mpikit/", "vit/"))}
    expected |= {f"mpikit/_{name}" for name in tracked() if name.startswith(("templates/", "values/"))}
    found = {
        str(path.relative_to(installed))
        for package in ("mpikit", "vit")
        for path in (installed / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert found == expected


def test_the_installed_command_renders_what_the_checkout_does(command: list[str]) -> None:
    words = ["--nodes", "2", *HEAD]
    checkout = subprocess.run(
        [sys.executable, str(ROOT / "generate.py"), *words], capture_output=True, text=True, check=True
    )
    assert run(command, *words).stdout == checkout.stdout


def test_check_schema_and_version_work_in_an_empty_folder(command: list[str], tmp_path: Path) -> None:
    own = ("--set", "output=/tmp", "--set", "image=mine:1")
    assert run(command, "check", *HEAD, "-f", "values/cpu.yaml", *own).stdout.endswith("no error found\n")
    assert json.loads(run(command, "schema").stdout)["type"] == "object"
    assert run(command, "--version").stdout == f"vit-mpijob {version()}\n"
    assert list(tmp_path.iterdir()) == []


def test_init_writes_to_the_current_folder_and_the_next_command_reads_and_names_it(
    command: list[str], installed: Path, tmp_path: Path
) -> None:
    assert run(command, "init", "--profile", "gaudi2", "--user", "ada").stdout == "values/user.yaml\n"
    assert not (installed / "mpikit" / "_values" / "user.yaml").exists()
    done = run(command, "--set", "dataset=/data", "--set", "output=/out")
    assert f"values/user.yaml: {tmp_path / 'values' / 'user.yaml'}" in done.stderr
    assert "ada-vit-8cards: 1 node x 8 gaudi2" in done.stderr


def test_advice_and_help_name_the_installed_command(command: list[str]) -> None:
    done = run(command, "--nonsense", code=2)
    assert "vit-mpijob --help" in done.stderr
    for words in (["--help"], ["init", "--help"], ["weights", "--help"]):
        text = run(command, *words).stdout
        assert "vit-mpijob" in text
        assert "generate.py" not in text


def test_the_shell_completes_the_installed_command(command: list[str]) -> None:
    os.environ.update(_VIT_MPIJOB_COMPLETE="bash_complete", COMP_WORDS="vit-mpijob doc", COMP_CWORD="1")
    try:
        assert run(command).stdout == "plain,doctor\n"
    finally:
        for name in ("_VIT_MPIJOB_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
            del os.environ[name]


OLD = "import sys\nsys.version_info = (3, 6, 9)\nsys.argv = ['generate.py', '--nodes', '2']\n"


def test_an_old_python_is_refused_by_its_version() -> None:
    """The version is a stand-in: no such Python is here. That its parser takes the file is tried with its grammar."""
    source = (ROOT / "generate.py").read_text()
    compile(source, "generate.py", "exec", flags=0x400, dont_inherit=True, _feature_version=6)  # ast.PyCF_ONLY_AST
    done = subprocess.run([sys.executable, "-c", OLD + source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "generate.py: this Python is 3.6, and at least 3.10 is needed",
            "  fix: python3.11 generate.py --nodes 2, or another newer one",
        ],
    )


def test_generate_py_can_be_run_as_a_program() -> None:
    done = subprocess.run([str(ROOT / "generate.py"), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("vit-mpijob ")
