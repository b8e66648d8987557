"""Credentials never reach a terminal, a log or a traceback: every text that is printed passes through `redact`."""

from __future__ import annotations

import base64
import re

HIDDEN = "<hidden>"
MIN_LENGTH = 6  # a shorter secret would blank out parts of ordinary words

# Credentials that nobody told us of, as a server or a plugin may echo them.
_PATTERNS = (
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"),
    re.compile(r"(?i)(\bbasic\s+)[A-Za-z0-9+/=]{8,}"),
    re.compile(r"()\beyJ[\w-]+\.[\w-]+\.[\w-]*"),  # a JSON web token, as service accounts have them
)
_secrets: set[str] = set()


def keep_secret(*texts: str | None) -> None:
    """Hide these texts, and their base64, from now on."""
    for text in texts:
        if text and len(text) >= MIN_LENGTH:
            _secrets.add(text)
            _secrets.add(base64.b64encode(text.encode()).decode())


def redact(text: str) -> str:
    """`text` with every known credential, and all that looks like one, replaced."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text
