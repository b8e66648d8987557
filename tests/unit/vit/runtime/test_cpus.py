# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

from vit.runtime.cpus import container_cpus, cpus_per_rank


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_quota_of_cgroup_v2_counts(tmp_path: Path) -> None:
    assert container_cpus(write(tmp_path, {"cpu.max": "150000 100000\n"})) == 1


def test_the_quota_of_cgroup_v1_counts(tmp_path: Path) -> None:
    quota = {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}
    assert container_cpus(write(tmp_path, quota)) == 1


def test_no_limit_means_the_machine(tmp_path: Path) -> None:
    unlimited = {"cpu.max": "max 100000", "cpuset.cpus.effective": "0-4095"}
    assert container_cpus(write(tmp_path, unlimited)) == os.cpu_count()


def test_a_cpu_set_counts(tmp_path: Path) -> None:
    assert container_cpus(write(tmp_path, {"cpuset/cpuset.cpus": "3"})) == 1


def test_more_ranks_than_cpus_leave_one_each(tmp_path: Path) -> None:
    assert cpus_per_rank(1000, tmp_path) == 1
