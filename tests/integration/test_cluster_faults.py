# SPDX-License-Identifier: Apache-2.0
"""submit, wait, status and delete under a broken network: seeded schedules against the scripted server.

More of them: scripts/soak faults --cases 1000. A schedule that fails names its seed; the same seed has the same faults.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.render.renderer import Rendered
from mpikit.text.manifest import read_manifest
from tests.conftest import Command
from tests.support.scripted import certificates
from tests.support.scripted.schedules import CommandLine, Library, Schedule
from tests.support.scripted.world import TimedCluster

CASES = int(os.environ.get("FAULT_CASES", "120"))
SPOKEN = range(0, CASES, 17)  # of them through the command line, which has to render each time


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("seed", range(CASES))
def test_no_fault_makes_a_second_job_a_wrong_verdict_a_hang_or_a_leak(
    seed: int,
    render_job: Callable[..., Rendered],
    trusted: certificates.Certificates,
    tmp_path: Path,
) -> None:
    manifests = read_manifest(render_job("cards=1").manifest).objects
    Schedule(seed, Library(manifests), manifests, tmp_path, trusted).run()


@pytest.mark.parametrize("seed", SPOKEN)
def test_the_command_line_keeps_these_promises_too(
    seed: int,
    generate: Command,
    trusted: certificates.Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ("--set", "cards=1", "--no-user-file")
    manifests = read_manifest(generate("render", *settings).stdout).objects
    name = next(item["metadata"]["name"] for item in manifests if item["kind"] == "MPIJob")
    user = CommandLine(generate, name, settings)
    schedule = Schedule(seed, user, manifests, tmp_path, trusted, two_at_once=False)
    clock = schedule.world.clock
    impatient = functools.partial(TimedCluster, clock=clock, sleep=clock.sleep, chance=lambda: 0.5)
    monkeypatch.setattr("mpikit.kube.client.Cluster", impatient)
    schedule.run()
