# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from vit.run.metrics import METRICS, metric_line


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
