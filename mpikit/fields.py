"""Field types shared by the models: text that can be carried, paths, counts, quantities."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mpikit.quoting import shown, unquotable

LABEL_MAX = 63  # DNS-1035 label (RFC 1035); <name>-worker-<i> must fit, mpi-operator validation.go
SUBDOMAIN_MAX = 253  # DNS-1123 subdomain, the name of most Kubernetes objects

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUANTITY = re.compile(r"(\d+|\d+\.\d+|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_POWER = {"": 0, "m": -1, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def to_camel(name: str) -> str:
    """A Python name as Kubernetes spells it; `host_ipc` is hostIPC there."""
    head, *tail = name.split("_")
    return head + "".join("IPC" if part == "ipc" else part.capitalize() for part in tail)


class Strict(BaseModel):
    """A part of the values whose keys are the trainer's flags or words of our own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Kube(BaseModel):
    """A part of the values whose keys are spelled as Kubernetes spells them."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class FieldError(ValueError):
    """A value that breaks a rule of its field, and what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise FieldError("a number is wanted, not a boolean", "write a number")
    return value


def _carried(value: str) -> str:
    reason = unquotable(value)
    if reason:
        raise FieldError(f"holds {reason}", "take it out")
    return value


def _text(value: str) -> str:
    control = next((char for char in _carried(value) if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0), None)
    if control is not None:
        raise FieldError(f"holds a control character (U+{ord(control):04X})", "take it out")
    if not value:
        raise FieldError("is empty", "give a value, or null to leave it out")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        fix = "start it with /, such as /home/me/data; a claim is {pvc: NAME, subPath: FOLDER}"
        raise FieldError(f"{shown(value)} is no absolute path", fix)
    if ".." in value.split("/"):
        raise FieldError(f"{shown(value)} holds .., which Kubernetes refuses", "write the path without ..")
    return value.rstrip("/") or "/"


def _relative(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise FieldError(f"{shown(value)} is no path below the claim", "write it without a leading / and without ..")
    return value


def _label(value: str) -> str:
    if not DNS_LABEL.fullmatch(value) or len(value) > LABEL_MAX:
        fix = f"start with a-z, go on with a-z, 0-9 and -, at most {LABEL_MAX} characters"
        raise FieldError(f"{shown(value)} is no name that Kubernetes takes", fix)
    return value


def _subdomain(value: str) -> str:
    if not DNS_SUBDOMAIN.fullmatch(value) or len(value) > SUBDOMAIN_MAX:
        raise FieldError(f"{shown(value)} is no name that Kubernetes takes", "use a-z, 0-9, - and .")
    return value


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not _QUANTITY.fullmatch(str(value)):
        raise FieldError(f"{shown(str(value))} is no quantity", "write it like 95, 500m, 4Gi or 95000Mi")
    return str(value)


def amount(quantity: str) -> Decimal:
    """A Kubernetes quantity as a number: 500m is 0.5, 4Gi is 4294967296."""
    found = _QUANTITY.fullmatch(quantity)
    assert found, quantity
    suffix = found[2] or ""
    base = 1024 if suffix.endswith("i") else 1000
    return Decimal(found[1]) * Decimal(base) ** _POWER[suffix.removesuffix("i")]


Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)]
Number = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_text)]
AnyText = Annotated[str, AfterValidator(_carried)]
AbsolutePath = Annotated[str, AfterValidator(_text), AfterValidator(_absolute)]
RelativePath = Annotated[str, AfterValidator(_text), AfterValidator(_relative)]
Label = Annotated[str, AfterValidator(_label)]
Subdomain = Annotated[str, AfterValidator(_subdomain)]
Quantity = Annotated[str, BeforeValidator(_quantity)]
