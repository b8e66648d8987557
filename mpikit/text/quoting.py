# SPDX-License-Identifier: Apache-2.0
"""The `yaml` and `sh` filters: every value that reaches a manifest or a script passes through one of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from mpikit.diagnostics import one_line, shortened

# YAML 1.1 and 1.2 agree on a double-quoted scalar when everything but these ranges is escaped. Left out on purpose:
# C0 and C1 controls, NEL, LS and PS (line breaks to YAML 1.1), the byte order mark and the noncharacters.
_UNSAFE = "[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
_UNSAFE_ASCII = re.compile("[^\x20-\x7e]")  # the same for ASCII alone; the large class takes milliseconds to compile
_BARE_KEY = re.compile("[A-Za-z][A-Za-z0-9_./-]*")
_NOT_TEXT = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")  # YAML 1.1 booleans and null
KEY_MAX = 1024  # as written, quotes and escapes included: YAML 1.2 section 7.4.2, and every reader's simple keys
SHOWN = 100  # characters of a text in a message
_SURROGATE = re.compile("[\ud800-\udfff]")


def unquotable(text: str) -> str | None:
    """Return what makes `text` impossible to carry through YAML, Kubernetes and a shell, or None."""
    if "\0" in text:
        return "a NUL character"
    found = _SURROGATE.search(text)
    return f"a lone surrogate (U+{ord(found[0]):04X})" if found else None


def unquotable_key(text: str) -> str | None:
    """Return what makes `text` impossible as the key of a map, or None."""
    return unquotable(text) or (f"more than {KEY_MAX} characters" if len(_written_key(text)) > KEY_MAX else None)


def shown(text: str) -> str:
    """Return `text` for a message: in double quotes, escaped for a terminal, shortened if it is long."""
    return f'"{one_line(shortened(text, SHOWN))}"'


def yaml_filter(value: object) -> str:
    """Return `value` as YAML: scalars on one line, strings double-quoted, maps and lists in blocks without indent."""
    match value:
        case Mapping() if value:
            return "\n".join(_entry(f"{_key(str(key))}:", item, "  ") for key, item in value.items())
        case str():
            return _scalar(value)
        case Sequence() if value:
            return "\n".join(_entry("-", item, "  ") for item in value)
        case _:
            return _scalar(value)


def yaml_text(text: str) -> str:
    """Return a text of many lines as a block scalar; double-quoted if YAML readers could differ on it."""
    plain = text.replace("\n", "")
    if not text.endswith("\n") or text.endswith("\n\n") or text.startswith((" ", "\n")) or _escaped(plain) != plain:
        return _double_quoted(text)
    return f"|\n{text}"


def sh_filter(value: object) -> str:
    """Return `value` as one word of a POSIX shell; a list as one word an item."""
    if isinstance(value, (list, tuple)):
        return " ".join(sh_filter(item) for item in value)
    text = str(value)
    reason = unquotable(text)
    if reason:
        raise ValueError(f"{reason} cannot be passed to a shell")
    return f"'{text}'" if text.startswith("=") else shlex.quote(text)  # bare, it would look like a comparison


def literal_dollars(text: str) -> str:
    """Return `text` with each `$` doubled, since Kubernetes expands `$(NAME)` in command, args and env values."""
    return text.replace("$", "$$")


def _entry(lead: str, item: object, indent: str) -> str:
    """Return one line of a map or list, or the lead and an indented block below or beside it."""
    nested = isinstance(item, (Mapping, list, tuple)) and bool(item)
    if not nested:
        return f"{lead} {_scalar(item)}"
    block = yaml_filter(item).replace("\n", f"\n{indent}")
    return f"{lead} {block}" if lead == "-" else f"{lead}\n{indent}{block}"


def _key(text: str) -> str:
    """Return a map's key: bare where every reader takes it as text, as people write it; double-quoted elsewhere."""
    reason = unquotable_key(text)
    if reason:
        raise ValueError(f"a key with {reason} cannot stand in a manifest")
    return _written_key(text)


def _written_key(text: str) -> str:
    bare = _BARE_KEY.fullmatch(text) and text.lower() not in _NOT_TEXT
    return text if bare else f'"{_escaped_text(text)}"'


def _scalar(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return _double_quoted(value)
        case Mapping():
            return "{}"
        case list() | tuple():
            return "[]"
        case _:
            raise TypeError(f"no YAML form for {type(value).__name__}")


def _float(value: float) -> str:
    """Return a float that YAML 1.1 and 1.2 both read as a float: PyYAML wants a dot, also before an exponent."""
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        raise ValueError(f"{text} is not a number that a manifest can contain")
    mantissa, exponent = text.split("e") if "e" in text else (text, "")
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


def _double_quoted(text: str) -> str:
    reason = unquotable(text)
    if reason:
        raise ValueError(f"{reason} cannot stand in a manifest")
    return f'"{_escaped_text(text)}"'


def _escaped_text(text: str) -> str:
    """Return `text` as it stands between double quotes."""
    return _escaped(text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t"))


def _escaped(text: str) -> str:
    """Return `text` with every character escaped that YAML readers could take differently."""
    return _UNSAFE_ASCII.sub(_escape, text) if text.isascii() else re.sub(_UNSAFE, _escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
