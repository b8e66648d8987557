# SPDX-License-Identifier: Apache-2.0
"""What the trainer writes to stdout, stderr and its logs: nothing in it can disturb a terminal or tell a password.

It is escaped into pipes too: mpirun carries the lines of a rank to terminals that the rank cannot see. No torch.
"""

from __future__ import annotations

import re
from typing import TextIO

# C0 without tab and newline, DEL, C1, marks and overrides of direction, line and paragraph separators, lone surrogates
# (a file name that is not UTF-8), invisible tags. ECMA-48; Unicode's Bidi_Control.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)
_USERINFO = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#\"'<>]*@")  # RFC 3986, 3.2.1
HIDDEN = "<hidden>"


def visible(text: str) -> str:
    """`text` with all escaped that a terminal would obey, and without the passwords of addresses."""
    return _UNSAFE.sub(_escape, _USERINFO.sub(rf"\1{HIDDEN}@", text))


def write(stream: TextIO, text: str) -> None:
    """Write `text` and flush; what the stream's encoding lacks is escaped too."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(visible(text).encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
