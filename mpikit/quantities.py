# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities as numbers."""

from __future__ import annotations

import re
from fractions import Fraction

# Two digits of an exponent: more than any resource has, and few enough that nobody's 1e999999999 is worked out.
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?")
_POWERS = {"n": -3, "u": -2, "m": -1, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def quantity(text: object) -> Fraction:
    """A Kubernetes quantity as a number, exactly: 500m is 1/2, 4Gi is 4294967296, 1e3 is 1000."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    number, suffix, exponent = Fraction(found[1]), found[2] or "", found[3]
    if exponent:
        return number * Fraction(10) ** int(exponent)
    if not suffix:
        return number
    return number * Fraction(1024 if suffix.endswith("i") else 1000) ** _POWERS[suffix[0]]
