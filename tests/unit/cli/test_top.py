# SPDX-License-Identifier: Apache-2.0
"""top: the slowest ranks first, what is missing is named, and nothing of the record reaches the terminal raw."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mpikit.cli.top import record_of, top_text
from tests.conftest import Command

NOW = 1_790_000_000.0


def row(rank: int, forward: float | None = 0.1, **more: Any) -> dict[str, Any]:
    speeds = {"images_per_second": 32.0 if forward else None, "data_seconds": 0.05 if forward else None}
    place = {"rank": rank, "host": f"w-{rank // 8}", "step": 120, "phase": "step", "idle_seconds": 0.4}
    memory = {"memory_bytes": 3 << 29, "device_memory_bytes": 20 << 30}
    return {**place, **speeds, "forward_seconds": forward, **memory, **more}


def content(*rows: dict[str, Any], silent: tuple[str, ...] = (), age: float = 4.0) -> bytes:
    return json.dumps({"time": NOW - age, "silent": list(silent), "ranks": list(rows)}).encode()


def lines(found: bytes, num_ranks: int = 0) -> list[str]:
    return top_text(record_of("ada-vit", found, NOW, num_ranks, 1), colour=False).splitlines()


def test_the_slowest_rank_comes_first_with_all_its_figures() -> None:
    found = lines(content(row(0), row(1, 0.2), row(2, 0.125)))
    assert found[0] == "ada-vit  3 ranks, step 120, 96 images/s in all, seen 4 s ago"
    assert [line.split()[0] for line in found[1:]] == ["RANK", "1", "2", "0"]
    assert " ".join(found[2].split()) == "1 w-0 120 step 0.50 32.0 200.0 ms 50.0 ms 0 s 1.5 GiB 20.0 GiB"


def test_a_rank_without_a_speed_stands_above_the_others_with_dashes() -> None:
    found = lines(content(row(0), row(1, None, phase="compile", idle_seconds=95.0, device_memory_bytes=None)))
    assert " ".join(found[2].split()) == "1 w-0 120 compile - - - - 95 s 1.5 GiB -"


def test_a_slow_rank_is_red_on_a_terminal_only() -> None:
    record = record_of("ada-vit", content(row(0), row(1, 0.2)), NOW)
    assert "\x1b[31m1 " in top_text(record, colour=True)
    assert "\x1b" not in top_text(record, colour=False)


def test_a_long_table_is_thinned_with_a_sentence() -> None:
    found = lines(content(*(row(rank, 0.1 + rank / 10_000) for rank in range(336))))
    assert len(found) == 27
    assert found[2].split()[0] == "335"
    assert found[-1] == "and 312 more ranks, with a score of at least 0.76; -o json lists all"


def test_what_a_record_contains_cannot_act_on_a_terminal() -> None:
    found = "\n".join(lines(content(row(0, host="w\x1b[2J\u202e", phase="<b>\n"))))
    assert "\x1b" not in found
    assert "\u202e" not in found
    assert len(found.splitlines()) == 3


def test_what_no_launcher_writes_is_left_out() -> None:
    strange = [{"rank": "x"}, {"rank": -1}, 5, {"rank": 3, "host": 7, "step": True, "forward_seconds": "fast"}]
    record = record_of("ada-vit", json.dumps({"time": None, "silent": [1], "ranks": strange}).encode(), NOW)
    assert [(one.rank, one.host, one.step, one.score) for one in record.ranks] == [(3, "", None, None)]
    assert (record.age_seconds, record.silent) == (None, ())


def test_the_folder_of_a_run_is_read_without_a_cluster(tmp_path: Path, generate: Command) -> None:
    rows = [row(0), row(1, 0.2)]
    (tmp_path / "live.json").write_text(json.dumps({"time": time.time() - 300, "silent": ["w-1"], "ranks": rows}))
    done = generate("top", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path.name}  2 ranks, step 120")
    assert "warning: the launcher has not renewed this record for 5 min" in done.stderr
    assert "warning: no report for 60 s from w-1" in done.stderr
    found = json.loads(generate("top", str(tmp_path), "-o", "json").stdout)
    assert [(one["rank"], one["score"]) for one in found["ranks"]] == [(1, 0.5), (0, 1.0)]


def test_a_run_whose_ranks_do_not_run_has_no_record(tmp_path: Path, generate: Command) -> None:
    done = generate("top", str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path.name} has no record of running ranks (live.json in the folder of its run)" in done.stderr
    assert f"fix: python generate.py report {tmp_path} shows its state; " in done.stderr


def test_a_folder_that_is_missing_is_no_job(tmp_path: Path, generate: Command) -> None:
    done = generate("top", f"{tmp_path}/nowhere")
    assert done.returncode == 1
    assert f"{tmp_path}/nowhere does not exist on this machine" in done.stderr


def test_ranks_of_the_job_that_no_node_reports_are_named() -> None:
    assert record_of("ada-vit", content(row(0), row(2)), NOW, 2, 2).missing == (1, 3)


@pytest.mark.parametrize(("nodes", "missing"), [(1, (1,)), (2, (1, 2, 3)), (9, (1, 2, 3)), ("x", (1, 2, 3))])
def test_ranks_of_lost_nodes_without_which_the_job_goes_on_are_not_missing(
    nodes: object, missing: tuple[int, ...]
) -> None:
    found = json.dumps({"time": NOW, "nodes": nodes, "silent": [], "ranks": [row(0)]}).encode()
    assert record_of("ada-vit", found, NOW, 2, 2).missing == missing
