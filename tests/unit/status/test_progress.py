# SPDX-License-Identifier: Apache-2.0
"""Progress lines of a launcher's log, in today's form and in the older JSON form."""

from __future__ import annotations

import json

from mpikit.status.progress import progress_of
from mpikit.trainer import progress_values

LINE = "step=100/1500 loss=0.412 top1=91.2% images_per_second=239 left=6m12s"
OLD = {"step": 50, "loss": 1.5, "top1_percent": None, "images_per_second": 240.0, "step_seconds": 0.5}


def test_a_line_gives_the_names_of_metrics_jsonl() -> None:
    assert progress_values(LINE) == {
        "step": 100,
        "num_steps": 1500,
        "loss": 0.412,
        "top1_percent": 91.2,
        "images_per_second": 239.0,
        "seconds_left": 372.0,
    }


def test_status_shows_the_newest_numbers_of_either_form() -> None:
    said = str(
        progress_of(["run_vit.sh: ready", json.dumps(OLD), LINE, "vit.train: step=7 is not a progress line"], None)
    )
    assert said == "step 100 of 1500, 239 images/s, loss 0.412, top-1 91.2 %, about 6 min left"
    assert str(progress_of([LINE, json.dumps({**OLD, "step": 200})], 1000)) == (
        "step 200 of 1000, 240 images/s, loss 1.5, top-1 91.2 %, about 7 min left"
    )


def test_the_time_left_of_old_lines_follows_from_their_speed() -> None:
    progress = progress_of([json.dumps(OLD)], 1050)
    assert progress is not None
    assert progress.seconds_left == 500.0


def test_other_lines_are_not_progress() -> None:
    for line in (
        "",
        "{",
        '{"step": 1}',
        "step=1/2 loss",
        "step=x/2 loss=1",
        "a step=1/2",
        '{"step": true, "images_per_second": 1}',
    ):
        assert progress_values(line) is None, line
