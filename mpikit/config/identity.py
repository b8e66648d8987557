# SPDX-License-Identifier: Apache-2.0
"""Turn a login name into a user name that Kubernetes accepts, and say what then is a guess."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from mpikit.config.types import DNS_LABEL, LABEL_MAX
from mpikit.diagnostics import Diagnostic
from mpikit.errors import ValuesError, one_fault
from mpikit.text.quoting import shown

PLACEHOLDER = "user"  # of root and of logins that leave no valid name
FIX = "--set user=NAME (a-z, 0-9, -), or write it once: python generate.py init --user NAME"

_LOGIN_MAX = 32  # useradd(8); with it, the names of 1,000 workers stay within a DNS label
_UNDIVIDED = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"})
_PATH_COMPONENT = re.compile(r"(?!-)(?!\.{1,2}\Z)[\w.@+-]{1,255}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A login name, and the user name that follows from it."""

    login: str
    name: str

    @property
    def placeholder(self) -> bool:
        """Whether the name says nothing about the person."""
        return self.name == PLACEHOLDER != self.login

    @property
    def exact(self) -> bool:
        """Whether the login itself is the user name."""
        return self.name == self.login

    @property
    def path_name(self) -> str:
        """The login as a folder name if it is a safe one, else the user name."""
        return self.login if not self.placeholder and _PATH_COMPONENT.fullmatch(self.login) else self.name


def identity_of(login: str) -> Identity:
    """Return the identity of a login name; an empty one means that the system does not know it."""
    valid = DNS_LABEL.fullmatch(login) and len(login) <= LABEL_MAX
    name = login if valid else _converted(login)
    return Identity(login, PLACEHOLDER if name in ("", "root") else name)


def _converted(login: str) -> str:
    """Convert first.last@site.edu to first-last, SITE\\José to jose, 1234 to u1234; return "" if nothing is left."""
    person = login.rpartition("\\")[2].partition("@")[0].lower().translate(_UNDIVIDED)
    plain = "".join(char for char in unicodedata.normalize("NFKD", person) if not unicodedata.combining(char))
    name = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    return f"{'u' if name[:1].isdigit() else ''}{name}"[:_LOGIN_MAX].rstrip("-")


def guess_warning(identity: Identity, follows: Collection[str]) -> Diagnostic:
    """Warn that `user` is not set and that the login name is no user name; `follows` are the keys that contain it."""
    if identity.placeholder:
        reason = f"the login name {shown(identity.login)} cannot be used" if identity.login else "the login is unknown"
        message = f'is not set, and {reason}: "{identity.name}" is a placeholder'
    else:
        message = f'is not set; the login name {shown(identity.login)} becomes "{identity.name}"'
    if follows:
        message += f". {', '.join(sorted(follows))} are guesses from it, so the job will not start"
    return Diagnostic("user", "", message, FIX, "warning")


def guess_error(identity: Identity) -> ValuesError:
    """Return the error of a command that needs the real user."""
    what = f"the login name {shown(identity.login)} is not a user name that this command can use"
    return one_fault("user", f"is not set, and {what if identity.login else 'the login is unknown'}", FIX)
