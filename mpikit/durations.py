# SPDX-License-Identifier: Apache-2.0
"""Time spans as people write them on a command line."""

from __future__ import annotations

import re

from mpikit.errors import one_fault

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))+")


def seconds_of(text: str, flag: str) -> float:
    """Seconds of 2h, 1h30m, 90s or 90; ValuesError for anything else."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not _SPAN.fullmatch(text):
        raise one_fault("", f'"{text}" is no time span', "write 90s, 10m, 2h or 1h30m", flag)
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([smhd])", text))
