"""The exceptions that reach a user, and the exit code of each.

KitError                 1   the job, check or comparison says no
  ValuesError            2   values or usage: carries every fault at once
  TemplateError         70   our own mistake: a template that cannot be rendered
  ManifestError          1   a manifest that the operator or the cluster would refuse
  RunError               1   the job ran on this machine and failed
  Interrupted          130   the user stopped it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

EXIT_NO = 1
EXIT_VALUES = 2
EXIT_INTERNAL = 70  # sysexits.h EX_SOFTWARE
EXIT_INTERRUPTED = 130  # 128 + SIGINT


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where (file, dotted key), what, and how to put it right."""

    key: str
    where: str
    message: str
    fix: str = ""
    severity: Literal["fault", "warning"] = "fault"

    def as_dict(self) -> dict[str, str]:
        """The fields as `check -o json` prints them."""
        return {name: str(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        subject = f"{self.key}: " if self.key else ""
        label = "warning: " if self.severity == "warning" else ""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{label}{subject}{self.message}" + (f"\n  fix: {self.fix}" if self.fix else "")


class KitError(Exception):
    """Something that the user is told in one clear line; the base of all others."""

    exit_code = EXIT_NO


class ValuesError(KitError):
    """Values that make no job; all faults are kept, so that they are reported together."""

    exit_code = EXIT_VALUES

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class TemplateError(KitError):
    """A template names something that the job does not have."""

    exit_code = EXIT_INTERNAL


class RunError(KitError):
    """A job that was run on this machine and did not complete."""


class Interrupted(KitError):
    """The user asked for a stop, and the job stopped."""

    exit_code = EXIT_INTERRUPTED


def one_fault(key: str, message: str, fix: str = "", where: str = "") -> ValuesError:
    """A ValuesError with a single fault."""
    return ValuesError([Fault(key, where, message, fix)])
