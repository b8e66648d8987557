# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from vit.run.metrics import METRICS, metric_line, progress_line, span


def test_a_line_has_every_key_in_order_and_null_for_what_was_not_measured() -> None:
    row = json.loads(metric_line({"loss": 0.5, "step": 3}))
    assert list(row) == list(METRICS)
    assert (row["step"], row["loss"], row["top1_percent"]) == (3, 0.5, None)


def test_a_key_without_a_row_in_the_table_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="speed"):
        metric_line({"speed": 1.0})


def test_no_line_ever_holds_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        metric_line({"loss": float("nan")})


def test_a_log_line_has_what_was_measured_in_short() -> None:
    values = {"step": 100, "loss": 0.41234, "top1_percent": 91.23, "images_per_second": 239.4, "step_seconds": 0.2657}
    line = progress_line({**values, "damaged_images": 0, "gradient_norm": 3.0}, 1500)
    assert line == "step=100/1500 loss=0.412 top1=91.2% images_per_second=239 left=6m12s"
    assert progress_line({"step": 9, "loss": 1.0, "images_per_second": 0.42, "damaged_images": 2}, 9) == (
        "step=9/9 loss=1.000 images_per_second=0.42 damaged_images=2"
    )


@pytest.mark.parametrize(("seconds", "text"), [(45.4, "45s"), (372, "6m12s"), (11_100, "3h05m"), (187_200, "2d04h")])
def test_a_span_has_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
