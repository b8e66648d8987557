# SPDX-License-Identifier: Apache-2.0
"""A command on a pseudo-terminal: the very bytes that a person's terminal would get."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Title, clipboard, clear, cursor, 8-bit CSI, DCS, answerback, half a sequence, backspace, direction, line ends.
ATTACKS = (
    *("\x1b]0;owned\x07", "\x1b]52;c;cHduZWQ=\x1b\\", "\x1b[2J", "\x1b[1;1H", "\x9b31m", "\x1bP$q\x1b\\", "\x05"),
    *("\x1b[31", "\x1b", "\x08\x08", "\x7f", "\u202egnp", "\u2066x\u2069", "\u2028", "\u2029", "\x0b", "\x0c", "\x85"),
)
HOSTILE = "".join(f"{number}{attack}" for number, attack in enumerate(ATTACKS))
_ALLOWED = re.compile(rb"\x1b\[(?:0|31|32|33)m|\r\n|\t")
_RAW = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Shown:
    """What a terminal got, and how the command ended."""

    returncode: int
    data: bytes

    @property
    def raw(self) -> list[str]:
        """Control characters that the terminal would obey, beside line ends and the kit's four colours."""
        return _RAW.findall(_ALLOWED.sub(b"", self.data).decode("utf-8", "surrogateescape"))


def on_terminal(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    each: Callable[[bytes], object] = lambda piece: None,
    **more: object,
) -> Shown:
    """Run a command whose stdin, stdout and stderr are one terminal; `each` gets what is written, when it is."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", **(environment or {})},
        **more,  # type: ignore[call-overload]  # cwd
    )
    os.close(slave)
    pieces = []
    with contextlib.suppress(OSError):  # EIO: the last holder of the terminal has closed it
        while piece := os.read(master, 65536):
            pieces.append(piece)
            each(piece)
    os.close(master)
    return Shown(process.wait(timeout=60), b"".join(pieces))
