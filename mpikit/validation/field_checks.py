# SPDX-License-Identifier: Apache-2.0
"""Names as the API server wants them in pods, and the small looks into parsed YAML that its rules share."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from mpikit.config.types import DNS_SUBDOMAIN, LABEL_MAX, SUBDOMAIN_MAX
from mpikit.diagnostics import Found, fault
from mpikit.text.nested import Object, at, is_int

PORT_MAX = 65535
PORT_NAME_MAX = 15  # an IANA service name, RFC 6335
PORTS = range(1, PORT_MAX + 1)
MODE_MAX = 0o777
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # DNS-1123; may start with a digit, unlike DNS-1035
LABEL_FIX = f"a-z, 0-9 and -, at most {LABEL_MAX}"
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")  # of a label's key, and its value
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_CONFIG_KEY = re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]+")  # of a ConfigMap or a Secret
_ENV_NAME = re.compile(r"[ -<>-~]+")  # printable ASCII without =, since Kubernetes 1.30


def is_label(name: str) -> bool:
    """Whether a text is a DNS-1123 label."""
    return bool(_DNS_LABEL.fullmatch(name)) and len(name) <= LABEL_MAX


def own_name(name: Any, key: str, seen: set[str]) -> Found:
    """A DNS label that nothing else of its kind has."""
    if not isinstance(name, str):
        return  # the schema says so
    if not is_label(name):
        yield fault(f"{key}.name", f"{name!r} is not a valid DNS label", LABEL_FIX)
    if name in seen:
        yield fault(f"{key}.name", f"{name!r} is used twice", "give another name")
    seen.add(name)


def object_name_faults(value: Any, key: str) -> Found:
    """The name of another object, or nothing."""
    if isinstance(value, str) and value and (not DNS_SUBDOMAIN.fullmatch(value) or len(value) > SUBDOMAIN_MAX):
        yield fault(key, f"{value!r} is not a valid object name", "a-z, 0-9, - and .")


def needed_name_faults(value: Any, key: str) -> Found:
    """The name of another object, which must be given."""
    if not value:
        yield fault(key, "is empty", "name the object")
    yield from object_name_faults(value, key)


def key_faults(value: Any, key: str) -> Found:
    """A key of a ConfigMap or a Secret, which must be given."""
    if not value:
        yield fault(key, "is empty", "name the key")
    elif isinstance(value, str) and not (_CONFIG_KEY.fullmatch(value) and len(value) <= SUBDOMAIN_MAX):
        fix = f"A-Z, a-z, 0-9, -, _ and ., at most {SUBDOMAIN_MAX}"
        yield fault(key, f"{value!r} is not a valid ConfigMap or Secret key", fix)


def label_value_faults(value: Any, key: str) -> Found:
    """A label's value."""
    if isinstance(value, str) and value and (not _NAME.fullmatch(value) or len(value) > LABEL_MAX):
        yield fault(key, f"{value!r} is not a valid label value", f"A-Z, a-z, 0-9, -, _ and ., at most {LABEL_MAX}")


def qualified_faults(name: str, key: str) -> Found:
    """A label's key: a name, with or without a domain before it."""
    domain, slash, own = name.rpartition("/")
    good = _NAME.fullmatch(own) and len(own) <= LABEL_MAX
    if not good or (slash and (not DNS_SUBDOMAIN.fullmatch(domain) or len(domain) > SUBDOMAIN_MAX)):
        yield fault(key, f"{name!r} is not a valid label key", "A-Z, a-z, 0-9, -, _ and ., after a domain/ or alone")


def variable_faults(name: Any, key: str) -> Found:
    """The name of an environment variable."""
    if isinstance(name, str) and not _ENV_NAME.fullmatch(name):
        yield fault(key, f"{name!r} is not a valid variable name", "A-Z, a-z, 0-9 and _")


def port_name_faults(name: str, key: str, fix: str) -> Found:
    """The name of a port."""
    if not _PORT_NAME.fullmatch(name) or len(name) > PORT_NAME_MAX:
        yield fault(key, f"{name!r} is not a valid port name", fix)


def below_faults(path: Any, key: str) -> Found:
    """A path that stays below the folder that it starts from."""
    if isinstance(path, str) and (path.startswith("/") or ".." in path.split("/")):
        yield fault(key, f"{path!r} must be a folder below the volume's", "no / first, no ..")


def mode_faults(mode: Any, key: str) -> Found:
    """The mode of a file."""
    if is_int(mode) and not 0 <= mode <= MODE_MAX:
        yield fault(key, f"{mode} is out of range", "0 to 511, which is 0777 in octal")


def is_address(value: Any) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        return bool(ipaddress.ip_address(str(value)))
    except ValueError:
        return False


PROFILES = ("RuntimeDefault", "Unconfined", "Localhost")


ID_MAX = (1 << 31) - 1  # of users and groups


def choice_faults(part: Object, choices: Mapping[tuple[str, ...], tuple[str, ...]], key: str) -> Found:
    """Fields, by their path below `part`, whose text is none of those that may stand there."""
    for path, allowed in choices.items():
        value = at(part, *path)
        if isinstance(value, str) and value not in allowed:
            known = ", ".join(choice for choice in allowed if choice)
            yield fault(".".join((key, *path)), f"{value!r} is not known", f"one of {known}")


def context_faults(context: Any, key: str) -> Found:
    """Numbers of users and groups, and settings that contradict each other."""
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        value = at(context, name)
        if is_int(value) and not 0 <= value <= ID_MAX:
            yield fault(f"{key}.{name}", f"{value} is not a valid user or group ID", f"0 to {ID_MAX}")
    if at(context, "privileged") is True and at(context, "allowPrivilegeEscalation") is False:
        yield fault(f"{key}.allowPrivilegeEscalation", "cannot be false when privileged", "take one of them out")
    profile = at(context, "seccompProfile")
    if isinstance(profile, dict) and (profile.get("type") == "Localhost") != bool(profile.get("localhostProfile")):
        yield fault(f"{key}.seccompProfile", "localhostProfile and type Localhost go together", "give both or none")
