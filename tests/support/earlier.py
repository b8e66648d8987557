# SPDX-License-Identifier: Apache-2.0
"""The project as it was at an earlier commit, taken from git's history."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEFORE_PACKAGES = "70a4586"
"""The last commit with flat packages, and with values files that a later one replaced."""


def earlier_checkout(folder: Path, commit: str = BEFORE_PACKAGES) -> Path:
    """Write the files of a commit to `folder`, and return it."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        pytest.skip(f"commit {commit} is not in this clone's history: clone without --depth")
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder
