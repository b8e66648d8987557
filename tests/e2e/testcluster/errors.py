# SPDX-License-Identifier: Apache-2.0
"""The one exception of these modules, and the exit codes: 0 done, 1 it failed, 2 usage or something missing here."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


class ClusterError(Exception):
    """What went wrong and how to put it right, for the person at the keyboard."""

    def __init__(self, what: str, fix: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(what, fix, exit_code)
        self.what, self.fix, self.exit_code = what, fix, exit_code

    def __str__(self) -> str:
        return f"scripts/cluster: {self.what}\n  fix: {self.fix}"


def missing(what: str, fix: str) -> ClusterError:
    """The error for something that this machine lacks."""
    other = "or set KUBECONFIG to a cluster that runs the MPI Operator (kind, minikube, a site)"
    return ClusterError(what, f"{fix}; {other}", EXIT_USAGE)
