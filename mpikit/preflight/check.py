# SPDX-License-Identifier: Apache-2.0
"""The result of one check of `doctor`."""

from __future__ import annotations

from mpikit.diagnostics import Diagnostic, warning
from mpikit.errors import ClusterError


def as_dict(found: Diagnostic) -> dict[str, str]:
    """Return the fields that `doctor -o json` prints."""
    return {"check": found.key, "result": found.severity, "message": found.message, "fix": found.fix}


def unseen(check: str, error: ClusterError) -> Diagnostic:
    """Return a warning that a check could not be made."""
    fix = error.hint or "ask the cluster's administrator for a role that can read it; the job itself does not need it"
    return warning(check, f"could not be checked: {error.message}", fix)
