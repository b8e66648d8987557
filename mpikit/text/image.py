# SPDX-License-Identifier: Apache-2.0
"""References to images, as the kubelet parses them: distribution/reference, reference.go and normalize.go."""

from __future__ import annotations

import re

NAME_MAX, TAG_MAX = 255, 128
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"({_LABEL}(\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(:[0-9]+)?")
_PART = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(rf"\w[\w.-]{{0,{TAG_MAX - 1}}}", re.ASCII)
_EXAMPLE = "write REGISTRY/NAME:TAG, such as ubuntu:22.04"


def image_fault(image: str) -> tuple[str, str] | None:
    """Return why the kubelet would say InvalidImageName and what to write instead; None for a valid reference."""
    if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", image):
        return f"starts with {scheme[0]}", f"write {image[scheme.end() :] or _EXAMPLE}"
    if found := re.search(r"[<>{}$]", image):
        return f"contains the placeholder character {found[0]}", _EXAMPLE
    if re.search(r"\s", image):
        return "contains a space", "write it without spaces"
    rest, at_sign, digest = image.partition("@")
    name, tag = rest, None
    if ":" in rest.rpartition("/")[2]:
        name, _, tag = rest.rpartition(":")
    if at_sign and (reason := _digest_reason(digest)):
        return reason, "write @sha256: and 64 of 0-9 and a-f"
    if tag is not None and not _TAG.fullmatch(tag):
        long = len(tag) > TAG_MAX
        reason = f"has a tag of {len(tag)} characters" if long else "has an invalid tag after the last colon"
        return reason, f"write a tag of A-Z, a-z, 0-9, _, . and -, at most {TAG_MAX} characters"
    return _name_fault(name)


def _digest_reason(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    if algorithm not in _DIGITS:
        return "has a digest that does not start with sha256:, sha384: or sha512:"
    wanted = _DIGITS[algorithm]
    return "" if re.fullmatch(rf"[a-f0-9]{{{wanted}}}", digits) else f"has a digest without {wanted} digits of 0-9, a-f"


def _name_fault(name: str) -> tuple[str, str] | None:
    host, slash, path = name.partition("/")
    if not (slash and (re.search(r"[.:]", host) or host == "localhost" or host.lower() != host)):
        host, path = "", name
    if re.fullmatch(r"[a-f0-9]{64}", name):
        return "is the ID of an image, not its name", _EXAMPLE
    if host and not _HOST.fullmatch(host):
        return f"has the invalid registry {host}", _EXAMPLE
    if path != path.lower():
        return "has capital letters in its name", f"write {f'{host}/' if host else ''}{path.lower()}"
    if not all(map(_PART.fullmatch, path.split("/"))):
        return "has an invalid name", _EXAMPLE
    longest = NAME_MAX - len(host) - bool(host)
    return (f"has a name longer than {NAME_MAX} characters", "shorten the name") if len(path) > longest else None
