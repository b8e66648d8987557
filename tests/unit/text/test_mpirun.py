# SPDX-License-Identifier: Apache-2.0
"""Command lines of mpirun, as people write them in containers and in scripts."""

from __future__ import annotations

import pytest

from mpikit.text.mpirun import Launch, launches

COUNTED: dict[str, tuple[list[str], int | None]] = {
    "one word each": (["mpirun", "-n", "3", "/pi"], 3),
    "with a path and two dashes": (["/opt/amazon/openmpi/bin/mpirun", "--np", "12", "./a"], 12),
    "an equals sign": (["mpiexec", "-np=4", "a"], 4),
    "Hydra": (["mpiexec.hydra", "-genv", "A", "1", "-ppn", "2", "-n", "8", "a"], 8),
    "behind another program": (["/usr/bin/tini", "--", "mpirun", "-c", "7", "a"], 7),
    "after options with values": (
        ["mpirun", "--mca", "btl", "^openib", "-x", "A=1", "-bind-to", "none", "-np", "5"],
        5,
    ),
    "two programs": (["mpirun", "-np", "2", "a", ":", "-np", "3", "b"], 5),
    "an option of the program": (["mpirun", "python", "train.py", "-n", "9"], None),
    "a shell behind mpirun": (["mpirun", "-np", "2", "bash", "-c", "exit"], 2),
    "lines that go on": (["bash", "-c", "set -e\nmpirun \\\n  --allow-run-as-root \\\n  -np 6 \\\n  a -n 1\n"], 6),
    "a pipe and a group": (["sh", "-c", "cd /x && (time mpirun -np 4 a) 2>&1 | tee log"], 4),
    "a text in a text": (["bash", "-lc", "su mpi -c 'mpirun -np 2 a'"], 2),
    "a quote that stays open": (["bash", "-c", 'mpirun -np 2 bash -c "\nexport A=1\na\n"'], 2),
    "a variable": (["bash", "-c", "mpirun -np $N a"], None),
    "a sum": (["bash", "-c", "mpirun -np $((2 * 4)) a"], None),
    "options in a variable": (["bash", "-c", "mpirun $OPTIONS -np 4 a"], None),
    "a comment": (["bash", "-c", "# don't: mpirun -np 99 a\nmpirun -np 2 a"], 2),
    "a number that is not ASCII": (["mpirun", "-np", "\u0663", "a"], None),
}


@pytest.mark.parametrize("case", COUNTED)
def test_the_count_of_a_command_line_is_read(case: str) -> None:
    words, ranks = COUNTED[case]
    assert [launch.ranks for launch in launches(words)] == [ranks]


@pytest.mark.parametrize(
    "words",
    [["echo mpirun -np 9"], ["bash", "-c", "echo 'mpirun -np 9 a'; which mpirun"], ["my-mpirun-tool", "-np", "9"], []],
)
def test_what_does_not_start_mpirun_is_not_read(words: list[str]) -> None:
    assert launches(words) == []


PLACED = {
    ("-H", "a:4,b:4"): Launch(own_hosts=True),
    ("--hostfile", "/tmp/hosts"): Launch(own_hosts=True),
    ("-f", "$HOSTS"): Launch(own_hosts=True),
    ("-hostfile", "/etc/mpi/hostfile"): Launch(),
    ("-npernode", "1"): Launch(placed=True, per_node=1),
    ("-pernode",): Launch(placed=True),
    ("--map-by", "ppr:2:socket"): Launch(placed=True),
    ("--map-by", "ppr:4:node:PE=2"): Launch(placed=True, per_node=4),
    ("--map-by", "slot"): Launch(),
    ("--map-by", "slot:OVERSUBSCRIBE"): Launch(oversubscribes=True),
    ("--oversubscribe",): Launch(oversubscribes=True),
    ("--nooversubscribe",): Launch(),
    ("-mca", "rmaps_base_oversubscribe", "1"): Launch(oversubscribes=True),
}


@pytest.mark.parametrize("options", PLACED)
def test_options_that_change_the_slots_are_seen(options: tuple[str, ...]) -> None:
    assert launches(["mpirun", *options, "a"]) == [PLACED[options]]
