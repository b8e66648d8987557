# SPDX-License-Identifier: Apache-2.0
"""Daemons and whole nodes that are lost at random moments: never a success without the completion record.

scripts/soak losses --cases N [--seed S] loses N of them; each case prints a line. The cases go through Open MPI 4 and
5, the first and the second node, and the daemon alone or all that runs on its node.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import sys
from pathlib import Path

import pytest

from tests.integration.local.conftest import OPEN_MPI, Run
from tests.integration.local.losses import last_step, lose, rank_of_node, seconds_until_no_rank_is_left

CASES, FIRST = int(os.environ.get("LOSS_CASES", "6")), int(os.environ.get("LOSS_SEED", "0"))
NUM_STEPS = 120
RECIPE = (f"train.num_steps={NUM_STEPS}", f"train.eval_every={NUM_STEPS}", "train.save_every=20", "train.log_every=1")
KINDS = list(itertools.product("54", (1, 0), ("daemon", "node")))
ALIVE_SECONDS = 20  # a rank ends within 10 s of its daemon; the rest is for a busy machine


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_a_lost_node_is_never_a_success(seed: int, tmp_path: Path) -> None:
    from vit.run.checkpoint import find_fault

    chance = random.Random(f"losses {seed}")
    release, node, way = KINDS[seed % len(KINDS)]
    if not (OPEN_MPI[release] / "mpirun").exists():
        pytest.skip(f"no Open MPI {release} in {OPEN_MPI[release]}; scripts/test installs it")
    moment = chance.randrange(NUM_STEPS + 1)
    run = Run(OPEN_MPI[release], tmp_path / "results", *RECIPE)
    with run.started() as process:
        run.until(process, lambda: last_step(run) >= moment)
        rank = rank_of_node(run.output, node)
        if rank is not None:
            lose(rank, way)
        _, told = process.communicate(timeout=240)
    alive = seconds_until_no_rank_is_left(run.output, ALIVE_SECONDS)
    code = 0 if process.returncode == 0 else int(re.findall(r"failed with exit code (\d+)", told)[-1])
    how = f"Open MPI {release}, {way} of rank {node} lost after step {moment}"
    how += f": exit code {code}, ranks gone {alive:.1f} s later"
    sys.stdout.write(f"case {seed}: {how if rank is not None else 'complete before the loss'}\n")
    proved = (run.output / "synthetic" / "completion.json").exists()
    assert proved or code != 0, told
    assert proved or "run is complete" not in told, told
    assert alive < ALIVE_SECONDS, how
    assert not [fault for path in run.output.glob("synthetic/checkpoints/step_*") if (fault := find_fault(path))]
