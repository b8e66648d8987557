# SPDX-License-Identifier: Apache-2.0
"""The cause of a failure that a status names."""

from __future__ import annotations

from datetime import datetime, timezone

from mpikit.kube.resources import MPIJob
from mpikit.status.job import retrying
from mpikit.status.snapshot import Snapshot

JUDGED = "run_vit.sh: mpirun ended with exit code 205: it lost the daemon of a node, or could not start it"


def told(*lines: str) -> str:
    """The message of a job whose launcher failed once after these lines."""
    job = MPIJob({"metadata": {"name": "vit", "namespace": "ada"}, "spec": {}})
    log = tuple((None, line) for line in lines)
    now = datetime(2026, 11, 26, tzinfo=timezone.utc)
    finding = retrying(Snapshot("vit", "ada", now, job, launcher_job={"status": {"failed": 1}}, log=log))
    assert finding is not None
    return finding.message


def test_what_run_vit_sh_says_of_mpiruns_end_is_the_cause() -> None:
    assert told("step 10: loss 0.5", JUDGED, "run_vit.sh: exit code 6: another rank went away").endswith(f"; {JUDGED}")
    assert told(JUDGED, "some library: error in its exit handler").endswith(f"; {JUDGED}")


def test_the_trainers_own_line_says_more_than_mpiruns_end() -> None:
    line = "vit.train: output: cannot be written (No space left on device), make room"
    assert told(line, JUDGED).endswith(f"; {line}")
