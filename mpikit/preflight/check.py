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
    fix = error.hint or "ask the cluster's administrator for a role that can read it; the job itself does not need it"
    return warning(check, f"cannot read {what}: {error.message}", fix)
