# SPDX-License-Identifier: Apache-2.0
"""Quantities, spans of time and numbered names."""

from __future__ import annotations

import re
from fractions import Fraction

# Two digits of an exponent: more than any resource has, and few enough to compute.
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?")
_POWERS = {"n": -3, "u": -2, "m": -1, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def quantity(text: object) -> Fraction:
    """Return a Kubernetes quantity as a number, exactly: 500m is 1/2, 4Gi is 4294967296, 1e3 is 1000."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text!r} is not a valid quantity")
    number, suffix, exponent = Fraction(found[1]), found[2] or "", found[3]
    if exponent:
        return number * Fraction(10) ** int(exponent)
    if not suffix:
        return number
    return number * Fraction(1024 if suffix.endswith("i") else 1000) ** _POWERS[suffix[0]]


BYTES = ("memory", "ephemeral-storage")  # resources that are counted in bytes


def without_unit(written: object) -> tuple[str, str] | None:
    """Return what a number of bytes below 1 MiB means, and what to write, if it has no unit or m (milli); else None."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", str(written))
    if not found or not 0 < (amount := quantity(written)) < 1 << 20:
        return None
    said = f"{written} is {float(amount):g} bytes" + (": m is milli" if found[2] else ", since it has no unit")
    return said, f"write {found[1]}Mi"


LONGEST_NAME = 63 - len("-worker-999")  # a pod's name is a DNS label
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))+")


def seconds_of(text: str) -> float | None:
    """Return the seconds of 2h, 1h30m, 90s or 90; None for anything else."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not _SPAN.fullmatch(text):
        return None
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([smhd])", text))


def duration(seconds: float) -> str:
    """Return a time span as people say it: 45 s, 12 min, 3 h 20 min, 2 days."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def another_name(name: str, longest: int = LONGEST_NAME) -> str:
    """The name with the next number, cut to fit: job -> job-2 -> job-3."""
    stem, _, number = name.rpartition("-")
    base, count = (stem, int(number) + 1) if stem and number.isdecimal() else (name, 2)
    return f"{base[: longest - len(f'-{count}')].rstrip('-')}-{count}"
