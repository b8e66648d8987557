# SPDX-License-Identifier: Apache-2.0
"""What is wrong, where, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

KEY_SHOWN = 200  # characters of a key in a message


def one_line(text: str) -> str:
    """`text` with all escaped that could disturb a terminal: controls, line breaks, marks that turn the direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shortened(text: str, most: int) -> str:
    """`text`, cut with dots after `most` characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def with_fix(message: str, fix: str) -> str:
    """The message, and on a line below it what to do."""
    return f"{message}\n  fix: {fix}" if fix else message


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that was looked at or is wrong, and how to put it right."""

    key: str
    """A dotted key, or what `doctor` has looked at."""
    where: str
    """Place in a file, or a flag."""
    message: str
    fix: str = ""
    severity: Literal["ok", "warning", "fault"] = "fault"

    def as_dict(self) -> dict[str, str]:
        """The fields as `check -o json` prints them."""
        return {name: str(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        label = "warning" if self.severity == "warning" else ""
        parts = (self.where, label, shortened(self.key, KEY_SHOWN), self.message)
        line = ": ".join(one_line(part) for part in parts if part)
        return with_fix(line, one_line(self.fix))


Found = Iterator[Diagnostic]


def fault(key: str, message: str, fix: str = "") -> Diagnostic:
    """What a job cannot be submitted with."""
    return Diagnostic(key, "", message, fix)


def warning(key: str, message: str, fix: str = "") -> Diagnostic:
    """What is taken, but most likely not meant."""
    return Diagnostic(key, "", message, fix, "warning")


def passed(key: str, message: str) -> Diagnostic:
    """What was looked at and is as it should be."""
    return Diagnostic(key, "", message, severity="ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on a job, since when, and the words for it."""

    verdict: str
    since: datetime | None
    reason: str
    message: str
    advice: str
