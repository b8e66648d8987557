# SPDX-License-Identifier: Apache-2.0
"""How many CPUs this process may use: the container's limit, shared by the ranks of the node. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """CPUs of the container: the least of its CFS quota, its CPU set and this process's affinity, at least 1."""
    return min(container_cpus(cgroup_root), len(os.sched_getaffinity(0)))


def cpus_per_rank(local_size: int, cgroup_root: Path = CGROUP_ROOT) -> int:
    """CPUs for this rank; mpirun may have bound it to fewer than its share."""
    return max(1, min(container_cpus(cgroup_root) // local_size, len(os.sched_getaffinity(0))))


def container_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Return the container's limit in whole CPUs, from cgroup v2 or v1; all CPUs of the machine if there is none."""
    counts = [os.cpu_count() or 1, _quota(cgroup_root), _cpuset(cgroup_root)]
    return max(1, min(count for count in counts if count is not None))


def _quota(root: Path) -> int | None:
    both = _read(root / "cpu.max") or _read(root / "cpu/cpu.cfs_quota_us") + " " + _read(root / "cpu/cpu.cfs_period_us")
    quota, _, period = both.partition(" ")
    if not quota.isdigit() or not period.isdigit():  # "max" (v2) and "-1" (v1) mean no limit
        return None
    return int(quota) // int(period)


def _cpuset(root: Path) -> int | None:
    text = _read(root / "cpuset.cpus.effective") or _read(root / "cpuset/cpuset.cpus")
    if not text:
        return None
    ranges = [part.split("-") for part in text.split(",")]
    return sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
