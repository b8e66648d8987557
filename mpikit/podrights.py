# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses of a security context, of a pod or of a container, and of fields with few choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpikit.kubeschema import Found
from mpikit.objects import at
from mpikit.podnames import Object, is_int

PROFILES = ("RuntimeDefault", "Unconfined", "Localhost")
ID_MAX = (1 << 31) - 1  # of users and groups


def choice_faults(part: Object, choices: Mapping[tuple[str, ...], tuple[str, ...]], key: str) -> Found:
    """Fields, by their path below `part`, whose text is none of those that may stand there."""
    for path, allowed in choices.items():
        value = at(part, *path)
        if isinstance(value, str) and value not in allowed:
            known = ", ".join(choice for choice in allowed if choice)
            yield ".".join((key, *path)), f"{value!r} is not known", f"one of {known}", "fault"


def context_faults(context: Any, key: str) -> Found:
    """Numbers of users and groups, and settings that contradict each other."""
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        value = at(context, name)
        if is_int(value) and not 0 <= value <= ID_MAX:
            yield f"{key}.{name}", f"{value} is no user or group number", f"0 to {ID_MAX}", "fault"
    if at(context, "privileged") is True and at(context, "allowPrivilegeEscalation") is False:
        yield f"{key}.allowPrivilegeEscalation", "cannot be false when privileged", "take one of them out", "fault"
    profile = at(context, "seccompProfile")
    if isinstance(profile, dict) and (profile.get("type") == "Localhost") != bool(profile.get("localhostProfile")):
        yield f"{key}.seccompProfile", "localhostProfile and type Localhost go together", "give both or none", "fault"
