"""Field types shared by the models: text that can be carried, paths, counts, quantities."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mpikit.quoting import unquotable

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


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not a boolean")
    return value


def _text(value: str) -> str:
    reason = unquotable(value)
    if reason:
        raise ValueError(f"holds {reason}")
    control = next((char for char in value if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0), None)
    if control is not None:
        raise ValueError(f"holds a control character (U+{ord(control):04X})")
    return value


def _carried(value: str) -> str:
    reason = unquotable(value)
    if reason:
        raise ValueError(f"holds {reason}")
    return value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"{value!r} is no absolute path")
    if ".." in value.split("/"):
        raise ValueError("holds .., which Kubernetes refuses in a path")
    return value.rstrip("/") or "/"


def _relative(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("is no path below the claim: no leading / and no ..")
    return value


def _label(value: str) -> str:
    if not DNS_LABEL.fullmatch(value) or len(value) > LABEL_MAX:
        raise ValueError(f"{value!r} is no name: a-z, then a-z, 0-9 and -, at most {LABEL_MAX} characters")
    return value


def _subdomain(value: str) -> str:
    if not DNS_SUBDOMAIN.fullmatch(value) or len(value) > SUBDOMAIN_MAX:
        raise ValueError(f"{value!r} is no Kubernetes name: a-z, 0-9, - and .")
    return value


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not _QUANTITY.fullmatch(str(value)):
        raise ValueError(f"{value!r} is no quantity such as 95, 500m, 4Gi or 95000Mi")
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
Text = Annotated[str, AfterValidator(_not_empty), AfterValidator(_text)]
AnyText = Annotated[str, AfterValidator(_carried)]
AbsolutePath = Annotated[str, AfterValidator(_not_empty), AfterValidator(_text), AfterValidator(_absolute)]
RelativePath = Annotated[str, AfterValidator(_text), AfterValidator(_relative)]
Label = Annotated[str, AfterValidator(_label)]
Subdomain = Annotated[str, AfterValidator(_subdomain)]
Quantity = Annotated[str, BeforeValidator(_quantity)]
