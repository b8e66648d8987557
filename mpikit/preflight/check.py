# SPDX-License-Identifier: Apache-2.0
"""What `doctor` says of one thing that it has looked at."""

from __future__ import annotations

from mpikit.diagnostics import Diagnostic, warning
from mpikit.errors import ClusterError


def as_dict(found: Diagnostic) -> dict[str, str]:
    """The fields as `doctor -o json` prints them."""
    return {"check": found.key, "result": found.severity, "message": found.message, "fix": found.fix}


def unseen(check: str, what: str, error: ClusterError) -> Diagnostic:
    """A warning that something could not be looked at."""
    fix = error.hint or "ask the site's staff to look, or for a role that may read it; the job itself does not need it"
    return warning(check, f"{what} cannot be seen: {error.message}", fix)
