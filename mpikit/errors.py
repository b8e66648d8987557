# SPDX-License-Identifier: Apache-2.0
"""The exceptions that reach a user, and the exit code of each.

KitError                 1   the job, check or comparison says no
  ValuesError            2   values or usage: carries every fault at once
  TemplateError         70   a bug: a template that cannot be rendered
  ManifestError          1   a manifest that the operator or the cluster would reject
  OutputError            1   standard output is closed, or its disk is full
  RunError               1   the job ran on this machine and failed
  JobError               1   the job on the cluster failed, or is in a state in which the command cannot act
  ClusterError           3   the cluster rejects the request
    NotFound             1   the object does not exist; 3 if the cluster lacks the whole API
    Forbidden            3   the user may not do this, or is not known
    Conflict             3   something else has changed or made the object
    Gone                 3   the server has forgotten this version: read again (never reaches a user)
    TooSlow              3   a log comes so slowly that reading it would not end
    Unreachable          3   no answer, or not that of an API server
      Silent             3   nothing came over an open stream for the time allowed (never reaches a user)
      Unknown            3   the connection broke after a change was sent: it may or may not have been made
  Timeout                4   what was waited for did not come in time
  Interrupted          130   the user stopped it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpikit.diagnostics import Diagnostic, with_fix

EXIT_NO = 1
EXIT_VALUES = 2
EXIT_CLUSTER = 3
EXIT_TIMEOUT = 4
EXIT_INTERNAL = 70  # sysexits.h EX_SOFTWARE
EXIT_INTERRUPTED = 130  # 128 + SIGINT


class KitError(Exception):
    """An error with one clear line for the user; the base of all others."""

    exit_code = EXIT_NO

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(with_fix(message, hint))
        self.message, self.hint = message, hint  # what is wrong, and what to do about it


class ValuesError(KitError):
    """Values that make no job; all faults are kept, so that they are reported together."""

    exit_code = EXIT_VALUES

    def __init__(self, faults: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class TemplateError(KitError):
    """A template names something that the job does not have."""

    exit_code = EXIT_INTERNAL


class ManifestError(KitError):
    """A manifest that the operator or the cluster would reject."""


class OutputError(KitError):
    """A result that could not be written to standard output."""


class RunError(KitError):
    """A job that was run on this machine and did not complete."""


class JobError(KitError):
    """A job on the cluster that failed, or that has the name already."""

    status: Any = None
    """The mpikit.status.verdict.Status of the job, for -o json, if it is known."""


class ClusterError(KitError):
    """The cluster rejected a request."""

    exit_code = EXIT_CLUSTER


class NotFound(ClusterError):
    """What was asked for does not exist."""

    kind = ""
    """The plural of what is missing, as the server names it."""
    no_api = False
    """The whole API group is missing, not an object of it."""

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # of the instance: what is missing decides
        """1 for an object, 3 for an API."""
        return EXIT_CLUSTER if self.no_api else EXIT_NO


class Forbidden(ClusterError):
    """The user may not do this, or the cluster does not know the user."""


class Conflict(ClusterError):
    """The object is there already, or something else has changed it."""


class Gone(ClusterError):
    """The server has forgotten the version that was asked for (410); the reader lists again."""


class TooSlow(ClusterError):
    """The answer drips. Not Unreachable: another try would take as long."""


class Unreachable(ClusterError):
    """No answer within the time allowed, or one that is not an API server's."""


class Silent(Unreachable):
    """Nothing came over an open stream for the time allowed; the reader opens another."""


class Unknown(Unreachable):
    """The connection broke after a change was sent: the server may have made it or not."""


class Timeout(KitError):
    """What was waited for did not come in time; nothing was stopped or undone."""

    exit_code = EXIT_TIMEOUT
    status: Any = None


class Interrupted(KitError):
    """The user asked for a stop, and the job stopped."""

    exit_code = EXIT_INTERRUPTED


def one_fault(key: str, message: str, fix: str = "", where: str = "") -> ValuesError:
    """A ValuesError with a single fault."""
    return ValuesError([Diagnostic(key, where, message, fix)])
