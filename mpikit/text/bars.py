# SPDX-License-Identifier: Apache-2.0
"""Small drawings of block characters for a terminal: a bar, and a curve of one line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

FULL, EMPTY = "█", "░"
LEVELS = "▁▂▃▄▅▆▇█"


def bar(part: float, whole: float, width: int) -> str:
    """Return a bar of `width` characters of which part / whole is full; it is full or empty only at the very ends."""
    share = min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0
    full = round(share * width)
    if 0 < share < 1 and width > 1:
        full = min(width - 1, max(1, full))
    return FULL * full + EMPTY * (width - full)


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the curve of the values in at most `width` characters, each the mean of as many values as the others."""
    size = min(width, len(values))
    edges = [number * len(values) // size for number in range(size + 1)] if size else []
    pieces = [values[start:end] for start, end in itertools.pairwise(edges)]
    means = [sum(piece) / len(piece) for piece in pieces]
    least, most = min(means, default=0.0), max(means, default=0.0)
    return "".join(LEVELS[_level(mean, least, most)] for mean in means)


def _level(value: float, least: float, most: float) -> int:
    """Return a number of LEVELS; the lowest one where all values are the same."""
    return round((value - least) / (most - least) * (len(LEVELS) - 1)) if most > least else 0
