# SPDX-License-Identifier: Apache-2.0
"""A values/user.yaml that an earlier version wrote gives the same job, and says what changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.earlier import earlier_checkout


def mpijob(manifest: str) -> Any:
    """The MPIJob without what later versions add or rename on purpose."""
    job = next(one for one in yaml.safe_load_all(manifest) if one["kind"] == "MPIJob")
    for replica in job["spec"]["mpiReplicaSpecs"].values():
        spec = replica["template"]["spec"]
        for added in ("automountServiceAccountToken", "topologySpreadConstraints"):
            spec.pop(added, None)
        spec["volumes"] = [one for one in spec.get("volumes", ()) if one["name"] != "kit"]
    return job


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return earlier_checkout(tmp_path_factory.mktemp("before"))


@pytest.fixture
def now(tmp_path: Path) -> Path:
    """A checkout of this version without its values/user.yaml."""
    root = Path(__file__).resolve().parents[3]
    for name in ("mpikit", "templates", "values", "vit"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "user.yaml"))
    shutil.copy(root / "generate.py", tmp_path)
    return tmp_path


def generate(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "generate.py", *words]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("site", ["voyager", "gaudi2", "gaudi3", "nvidia", "cpu"])
def test_the_file_that_an_earlier_init_wrote_gives_the_same_job(before: Path, now: Path, site: str) -> None:
    own = before / "values" / "user.yaml"
    own.unlink(missing_ok=True)
    generate(before, "init", "--site", site, "--user", "ada")
    shutil.copy(own, now / "values")
    grace = ("--set", "terminationGracePeriodSeconds=60")  # the derived one has become longer
    done = generate(now, "--nodes", "2", *grace, "--set", "restarts.max=0")  # restarts need one more variable
    assert mpijob(done.stdout) == mpijob(generate(before, "--nodes", "2", *grace).stdout)
    for said in (done.stderr, generate(now, "check").stderr):
        assert (f"write profile: {site} instead" in said) == (site != "voyager")
