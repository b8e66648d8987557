# SPDX-License-Identifier: Apache-2.0
"""Bars and curves of block characters."""

from __future__ import annotations

import pytest

from mpikit.text.bars import bar, sparkline


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [
        (0, 10, "░░░░"),
        (5, 10, "██░░"),
        (10, 10, "████"),
        (1, 1000, "█░░░"),
        (999, 1000, "███░"),
        (12, 10, "████"),
        (-1, 10, "░░░░"),
        (3, 0, "░░░░"),
    ],
)
def test_a_bar_is_empty_or_full_only_at_the_ends(part: float, whole: float, drawn: str) -> None:
    assert bar(part, whole, 4) == drawn


def test_a_curve_goes_from_the_least_to_the_most() -> None:
    assert sparkline([7, 6, 5, 4, 3, 2, 1, 0], 40) == "█▇▆▅▄▃▂▁"
    assert sparkline([1, 1, 1], 40) == "▁▁▁"
    assert sparkline([], 40) == ""


def test_many_values_become_the_means_of_equal_pieces() -> None:
    assert sparkline([0, 0, 7, 7, 0, 0], 3) == "▁█▁"
    assert len(sparkline(list(range(401)), 40)) == 40
