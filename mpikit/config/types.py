# SPDX-License-Identifier: Apache-2.0
"""Field types shared by the models: text that can be carried, paths, counts, quantities."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from mpikit.text.image import image_fault
from mpikit.text.quoting import shown, unquotable, unquotable_key
from mpikit.text.units import seconds_of
from mpikit.text.yaml_scalars import INT64_MAX

LABEL_MAX = 63  # DNS-1035 label (RFC 1035); <name>-worker-<i> must fit, mpi-operator validation.go
SUBDOMAIN_MAX = 253  # DNS-1123 subdomain, the name of most Kubernetes objects

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
QUANTITY = re.compile(r"(\d+|\d+\.\d+|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")  # those that people write
_PLAIN_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\}|\([A-Za-z_]\w*\))")
_PLACEHOLDER = re.compile(r"\{[A-Za-z_][\w.-]*\}")
_PLAIN_PATH = re.compile(
    r"[A-Za-z0-9._/-]+"
)  # AuthorizedKeysFile is split at blanks, and % starts a token (sshd_config)


def to_camel(name: str) -> str:
    """Return a Python name as Kubernetes spells it; `host_ipc` is hostIPC there."""
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


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise FieldError("is a boolean, not a number", "write a number")
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(value):
        raise FieldError(f"{shown(value)} is not a number", "write a number, such as 8")
    if isinstance(value, (str, float)) and not math.isfinite(float(value)):
        raise FieldError(f"{shown(str(value))} is not a finite number", "write a finite number")
    return value


def _span(value: Any) -> Any:
    """Return the whole seconds of 30, 30s, 5m or 1h30m."""
    seconds = seconds_of(str(value)) if not isinstance(value, bool) else None
    if seconds is None or seconds != int(seconds):
        raise FieldError(f"{shown(str(value))} is not a valid time span", "write 30s, 5m or 1h")
    return int(seconds)


def _carried(value: str) -> str:
    reason = unquotable(value)
    if reason:
        raise FieldError(f"contains {reason}", "remove it")
    return value


def _key(value: str) -> str:
    reason = unquotable_key(value)
    if reason:
        raise FieldError(f"a key contains {reason}", "write a shorter key of plain characters")
    return value


def _text(value: str) -> str:
    control = next((char for char in _carried(value) if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0), None)
    if control is not None:
        raise FieldError(f"contains a control character (U+{ord(control):04X})", "remove it")
    if not value:
        raise FieldError("is empty", "give a value, or null to leave it out")
    return value


def unexpanded(value: str) -> str:
    """Return the first variable or placeholder in a path; empty if there is none."""
    found = _VARIABLE.search(value) or _PLACEHOLDER.search(value)
    return found[0] if found else ""


def _expanded(value: str) -> str:
    """Return a path in which nothing is left to expand: a folder of such a name is a mistake."""
    if found := _VARIABLE.search(value):
        fix = "write {user}" if found[0].strip("${()}") in ("USER", "LOGNAME") else "write the folder itself"
        raise FieldError(f"{shown(value)} contains {found[0]}, and variables are not expanded", fix)
    if found := _PLACEHOLDER.search(value):
        raise FieldError(f"{found[0]} is not a known placeholder", "write {user} or {synapse}, or the folder itself")
    return value


def _image(value: str) -> str:
    if bad := image_fault(value):
        raise FieldError(f"{shown(value)} is not a valid image reference: it {bad[0]}", bad[1])
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        fix = "start it with /, such as /home/me/data; a claim is {pvc: NAME, subPath: FOLDER}"
        more = ": ~ and variables are not expanded" if value.startswith(("~", "$")) else ""
        raise FieldError(f"{shown(value)} is not an absolute path{more}", fix)
    if ".." in value.split("/"):
        raise FieldError(f"{shown(value)} contains .., which Kubernetes rejects", "write the path without ..")
    return _expanded(value).rstrip("/") or "/"


def _plain(value: str) -> str:
    if not _PLAIN_PATH.fullmatch(value):
        raise FieldError(
            f"{shown(value)} contains characters that sshd interprets", "use letters, digits, ., _, - and /"
        )
    return value


def _relative(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise FieldError(f"{shown(value)} is not a path below the claim", "write it without a leading / and without ..")
    return _expanded(value)


def _label(value: str) -> str:
    if not DNS_LABEL.fullmatch(value) or len(value) > LABEL_MAX:
        fix = f"start with a-z, go on with a-z, 0-9 and -, at most {LABEL_MAX} characters"
        raise FieldError(f"{shown(value)} is not a valid Kubernetes name", fix)
    return value


def _subdomain(value: str) -> str:
    if not DNS_SUBDOMAIN.fullmatch(value) or len(value) > SUBDOMAIN_MAX:
        raise FieldError(f"{shown(value)} is not a valid Kubernetes name", "use a-z, 0-9, - and .")
    return value


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not QUANTITY.fullmatch(str(value)):
        raise FieldError(f"{shown(str(value))} is not a valid quantity", "write it like 95, 500m, 4Gi or 95000Mi")
    return str(value)


INT32_MAX = 2**31 - 1  # Kubernetes counts replicas and seconds in 32 bits
MAX_TREE_DEPTH = 30
BATCH_MAX = 1 << 20  # far above any recipe; keeps a slip of the finger from becoming a long search for divisors


def _tree(value: Any, depth: int = 0) -> Any:
    """Return a part of a Kubernetes object unchanged, if every reader of YAML and JSON reads it alike."""
    if depth > MAX_TREE_DEPTH:
        raise FieldError(f"is nested deeper than {MAX_TREE_DEPTH}", "make it flatter")
    match value:
        case dict():
            return {_key(str(key)): _tree(item, depth + 1) for key, item in value.items()}
        case list():
            return [_tree(item, depth + 1) for item in value]
        case str():
            return _carried(value)
        case bool() | None:
            return value
        case int() if abs(value) > INT64_MAX:
            raise FieldError(f"{value} is beyond 64 bits", "put it in quotes, or write a smaller number")
        case float() if not math.isfinite(value):
            raise FieldError(f"{value} is not a finite number", "write a finite number")
        case _:
            return value


def _folder_name(value: str) -> str:
    if "/" in value or value in (".", "..") or value.startswith("-"):
        raise FieldError(f"{shown(value)} is not a valid folder name", "write it without /, not starting with -")
    return value


def _rand_augment(value: str) -> str:
    if not RAND_AUGMENT.fullmatch(value):
        fix = "write it as timm does: rand-m9-mstd0.5-inc1 (m, n, p, mstd, mmax, inc)"
        raise FieldError(f"{shown(value)} is not a valid RandAugment policy", fix)
    return value


def _mean(value: str) -> str:
    return _channels(value, MEAN, "0.485,0.456,0.406")


def _std(value: str) -> str:
    return _channels(value, STD, "0.229,0.224,0.225")


def _channels(value: str, pattern: re.Pattern[str], example: str) -> str:
    if not pattern.fullmatch(value):
        fix = f'write imagenet, inception or three numbers up to 1: "{example}"'
        raise FieldError(f"{shown(value)} does not give three channels", fix)
    return value


_SHARE = r"(0(\.\d+)?|\.\d+|1(\.0+)?)"
MEAN = re.compile(rf"inception|imagenet|{_SHARE},{_SHARE},{_SHARE}")
STD = re.compile("inception|imagenet|" + ",".join([rf"(?=[\d.]*[1-9]){_SHARE}"] * 3))  # tests compare both likewise
RAND_AUGMENT = re.compile(r"rand(-(m|n|p|mstd|mmax|inc)\d+(\.\d+)?)*")  # a test compares it with the trainer's own
TreeMap = Annotated[dict[str, Any], AfterValidator(_tree)]
Count = Annotated[int, BeforeValidator(_plain_number), Field(ge=1, le=INT32_MAX)]
Natural = Annotated[int, BeforeValidator(_plain_number), Field(ge=0, le=INT32_MAX)]
Span = Annotated[
    int,
    BeforeValidator(_span),
    Field(ge=0, le=24 * 3600),
    WithJsonSchema({"type": ["string", "integer"], "pattern": r"^(\d+[smhd]?|(\d+[smhd])+)$", "minimum": 0}),
]
"""Seconds, written as 30s or 5m."""
Samples = Annotated[int, BeforeValidator(_plain_number), Field(ge=0, le=24)]
Batch = Annotated[int, BeforeValidator(_plain_number), Field(ge=1, le=BATCH_MAX)]
Seed = Annotated[int, BeforeValidator(_plain_number), Field(ge=0, le=2**32 - 1)]
Number = Annotated[float, BeforeValidator(_plain_number), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(_plain_number), Field(gt=0)]
Fraction = Annotated[float, BeforeValidator(_plain_number), Field(ge=0, lt=1)]
Share = Annotated[float, BeforeValidator(_plain_number), Field(ge=0, le=1)]
UpToOne = Annotated[float, BeforeValidator(_plain_number), Field(gt=0, le=1)]
Gib = Annotated[float, BeforeValidator(_plain_number), Field(ge=0, le=1 << 30)]
Text = Annotated[str, AfterValidator(_text)]
Image = Annotated[Text, AfterValidator(_image)]
Name = Annotated[str, AfterValidator(_text), AfterValidator(_key)]
AnyText = Annotated[str, AfterValidator(_carried)]
AbsolutePath = Annotated[str, AfterValidator(_text), AfterValidator(_absolute)]
PlainPath = Annotated[AbsolutePath, AfterValidator(_plain)]
RelativePath = Annotated[str, AfterValidator(_text), AfterValidator(_relative)]
Label = Annotated[str, AfterValidator(_label)]
Subdomain = Annotated[str, AfterValidator(_subdomain)]
RandAugment = Annotated[Text, AfterValidator(_rand_augment)]
Mean = Annotated[Text, AfterValidator(_mean)]
Std = Annotated[Text, AfterValidator(_std)]
FolderName = Annotated[Text, AfterValidator(_folder_name)]
Quantity = Annotated[str, BeforeValidator(_quantity), WithJsonSchema({"type": ["string", "number"]})]
