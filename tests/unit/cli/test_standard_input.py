# SPDX-License-Identifier: Apache-2.0
"""`-f -` gives every command the same job, however often it loads the values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.scripted.server import Scripted
from tests.support.scripted.world import NAMESPACE, World

VALUES = f"user: bob\nnodes: 2\nnamespace: {NAMESPACE}\nserviceAccountName: null\n"
JOB, SMOKE = "bob-vit-16cards", "bob-vit-smoke"
OFFLINE = {
    "render": ((), JOB),
    "render --smoke": (("--smoke",), SMOKE),
    "check": (("check", "-v"), JOB),
    "check --smoke": (("check", "-v", "--smoke"), SMOKE),
    "weights": (("weights",), "/users/bob/"),
    "weights --job": (("weights", "--job"), "bob"),
    "data --job": (("data", "imagenet1K", "--from", "/archives", "--job"), "bob"),
    "data": (("data", "imagenet1K", "--from", "/archives"), "/users/bob/"),
}
ON_A_CLUSTER = {
    "submit": (("submit",), JOB),
    "submit --smoke": (("submit", "--smoke"), SMOKE),
    "diff": (("diff",), JOB),
    "diff --smoke": (("diff", "--smoke"), SMOKE),
    "doctor": (("doctor",), JOB),
    "doctor --smoke": (("doctor", "--smoke"), SMOKE),
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


@pytest.mark.parametrize("name", OFFLINE)
def test_each_command_takes_its_values_from_standard_input(generate: Command, name: str) -> None:
    words, expected = OFFLINE[name]
    done = generate(*words, "-f", "-", stdin=VALUES)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert "ada-vit" not in done.stdout
    assert "/users/ada/" not in done.stdout


@pytest.mark.parametrize("name", ON_A_CLUSTER)
def test_each_command_of_a_cluster_does_too(world: World, generate: Command, name: str) -> None:
    words, expected = ON_A_CLUSTER[name]
    done = generate(*words, "-f", "-", "--kubeconfig", str(world.kubeconfig), stdin=VALUES)
    assert expected in done.stdout, done.stderr
    names = {item["metadata"]["name"] for item in world.server.store.of("mpijobs")}
    assert names == ({expected} if words[0] == "submit" else set())


def test_run_does_too(generate: Command) -> None:
    """Its job is announced before a folder of the system is refused as its output."""
    done = generate("run", "-f", "-", "--set", "output=/", stdin=VALUES)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{JOB}: 2 nodes")
