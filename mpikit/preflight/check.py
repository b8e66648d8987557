# SPDX-License-Identifier: Apache-2.0
"""One check of `doctor` and its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from mpikit.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what to do about it."""

    check: str
    result: Literal["ok", "warning", "fault"]
    message: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The fields as `doctor -o json` prints them."""
        return {name: str(value) for name, value in asdict(self).items()}


def unseen(check: str, what: str, error: ClusterError) -> Check:
    """A warning that something could not be looked at."""
    fix = error.hint or "ask the site's staff to look, or for a role that may read it; the job itself does not need it"
    return Check(check, "warning", f"{what} cannot be seen: {error.message}", fix)
