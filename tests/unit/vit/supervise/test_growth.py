# SPDX-License-Identifier: Apache-2.0
"""Lost nodes that come back: a shell script stands in for ssh, and says which of them pass their checks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vit.supervise.growth import Growth
from vit.supervise.history import RunFiles

SCALE = 0.001  # a look each 30 ms
SOON = 30.0


class World:
    """Four nodes, of which the attempt uses some."""

    def __init__(self, folder: Path, used: int) -> None:
        self.folder, self.said, self.ended = folder, [], threading.Event()
        self.run = folder / "output" / "vit"
        self.run.mkdir(parents=True)
        (folder / "hostfile").write_text("".join(f"w-{number}.w.ns.svc slots=8\n" for number in range(4)))
        ssh = folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nif [ -e {folder}/"${{1%%.*}}" ]; then echo mpikit-works; else exit 255; fi\n')
        ssh.chmod(0o755)
        words = ["/kit", "0", "1", str(ssh), *(f"w-{number}.w.ns.svc" for number in range(used))]
        (folder / "plan").write_text("".join(f"{word}\0" for word in words))
        files = RunFiles(folder / "output", "vit")
        self.growth = Growth([1, 2, 4], folder / "hostfile", folder / "plan", files, self.said.append, SCALE)

    said: list[str]

    def works(self, *numbers: int) -> None:
        for number in numbers:
            (self.folder / f"w-{number}").touch()

    def checkpoint(self, step: int) -> None:
        (self.run / "last").write_text(f"step_{step:08d}\n")


@pytest.fixture
def world(tmp_path: Path) -> Callable[[int], World]:
    return lambda used: World(tmp_path, used)


def test_the_attempt_ends_after_the_next_checkpoint_once_enough_nodes_work(world: Callable[[int], World]) -> None:
    lab = world(2)
    lab.checkpoint(20)
    lab.works(2)
    lab.growth.begin(lab.ended.set)
    assert not lab.ended.wait(0.5), "three of four nodes do not split the batch"
    lab.works(3)
    threading.Timer(0.3, lab.checkpoint, (40,)).start()
    assert lab.ended.wait(SOON)
    assert lab.said == ["w-2, w-3 work again: after the next checkpoint the job goes on with 4 nodes"]
    assert lab.growth.end()
    assert not lab.growth.end(), "the next attempt was not asked to end"


def test_a_part_of_the_nodes_is_taken_back_too(world: Callable[[int], World]) -> None:
    lab = world(1)
    lab.works(3)
    lab.growth.begin(lab.ended.set)
    assert lab.ended.wait(SOON)
    assert lab.said == ["w-3 works again: after the next checkpoint the job goes on with 2 nodes"]


def test_a_checkpoint_that_does_not_come_is_not_waited_for_without_end(world: Callable[[int], World]) -> None:
    lab = world(2)
    lab.checkpoint(20)
    lab.works(2, 3)
    lab.growth.begin(lab.ended.set)
    assert lab.ended.wait(SOON)


def test_after_its_end_an_attempt_is_left_alone(world: Callable[[int], World]) -> None:
    lab = world(2)
    lab.growth.begin(lab.ended.set)
    assert not lab.growth.end()
    lab.works(2, 3)
    assert not lab.ended.wait(0.5)


def test_each_restart_doubles_the_time_until_the_next_look(world: Callable[[int], World]) -> None:
    lab = world(2)
    lab.works(2, 3)
    lab.growth.times = 6  # 1.9 s
    lab.growth.begin(lab.ended.set)
    assert not lab.ended.wait(1.0)
    assert lab.ended.wait(SOON)
