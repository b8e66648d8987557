# SPDX-License-Identifier: Apache-2.0
"""Credentials never reach a terminal, a log or a traceback: every text that is printed passes through `redact`.

A manifest on stdout is data and stays whole.
"""

from __future__ import annotations

import base64
import re
from typing import Any

HIDDEN = "<hidden>"
MIN_LENGTH = 6  # a shorter secret would blank out parts of ordinary words

# Credentials that were not announced, as a server, a plug-in or an address may contain them.
_PATTERNS = (
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"),
    re.compile(r"(?i)(\bbasic\s+)[A-Za-z0-9+/=]{8,}"),
    re.compile(r"()\beyJ[\w-]+\.[\w-]+\.[\w-]*"),  # a JSON web token, as service accounts have them
    re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#\"'<>]+(?=@)"),  # userinfo of an address; RFC 3986, 3.2.1
    re.compile(  # signed addresses of S3, Google Cloud Storage and Azure, and what APIs call their keys
        r"(?i)([?&;](?:x-(?:amz|goog)-(?:signature|credential|security-token)|(?:aws|google)accesskeyid|sig|signature"
        r"|(?:\w*[_-])?(?:token|key|secret|password|passwd|pwd))=)[^&\s#\"']+"
    ),
    re.compile(
        r"""(?i)((?:\b|_)(?:password|passwd|secret|token|api[_-]?key)["']?=["']?|--(?:password|token)[ =])[^\s"',;&]+"""
    ),
    re.compile(r"""(?i)("[\w-]*(?:password|passwd|secret|token|api_?key)"\s*:\s*")(?:[^"\\]|\\.)+"""),
)
# A variable as a manifest or a diff of two shows it, in YAML and in JSON.
_YAML_VARIABLE = re.compile(r"""(name: ["']?([\w.-]+)["']?[ \t]*\n)((?:[ +-]?[ \t]*value: .*(?:\n|$))+)""")
_JSON_VARIABLE = re.compile(r"""("name":\s*"([\w.-]+)",\s*"value":\s*")((?:[^"\\]|\\.)*)""")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = (
    "KEY",
    "TOKEN",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWORDS",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "CREDENTIALS",
)
_SECRET_ENDS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY")  # PGPASSWORD, AUTHTOKEN
_PLACES = ("FILE", "PATH", "DIR")  # TOKEN_FILE says where it is, not what
_secrets: set[str] = set()


def keep_secret(*texts: str | None) -> None:
    """Hide these texts, and their base64, from now on."""
    for text in texts:
        if text and len(text) >= MIN_LENGTH:
            _secrets.add(text)
            _secrets.add(base64.b64encode(text.encode()).decode())


def redact(text: str) -> str:
    """Return `text` with every known credential, and all that looks like one, replaced."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    text = _YAML_VARIABLE.sub(_hide_yaml, text)
    return _JSON_VARIABLE.sub(lambda found: found[1] + (HIDDEN if looks_secret(found[2]) else found[3]), text)


def looks_secret(name: str) -> bool:
    """Whether a variable of this name is expected to be a secret: a word of it says so, and it names no file."""
    words = [word.upper() for word in _WORD.findall(name)]
    if not words or words[-1] in _PLACES:
        return False
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words)


def masked(value: Any) -> Any:
    """Return values for people: each {name, value} with a secret name without its value."""
    if isinstance(value, dict):
        hidden = {"value": HIDDEN} if _is_secret(value) else {}
        return {name: masked(item) for name, item in value.items()} | hidden
    return [masked(item) for item in value] if isinstance(value, list) else value


def keep_secrets_of(value: Any) -> None:
    """Hide the value of each {name, value} whose name looks secret from now on, wherever it turns up."""
    if isinstance(value, dict):
        if _is_secret(value):
            keep_secret(str(value["value"]))
        for item in value.values():
            keep_secrets_of(item)
    elif isinstance(value, list):
        for item in value:
            keep_secrets_of(item)


def _is_secret(item: dict[Any, Any]) -> bool:
    return isinstance(item.get("name"), str) and looks_secret(item["name"]) and item.get("value") not in (None, "")


def _hide_yaml(found: re.Match[str]) -> str:
    if not looks_secret(found[2]):
        return found[0]
    return found[1] + re.sub(r"(value: ).*", rf"\1{HIDDEN}", found[3])
