# SPDX-License-Identifier: Apache-2.0
"""The one writer of the kit: whatever reaches stdout or stderr passes through here.

Talk on stderr is always escaped. stdout is data: into a pipe or a file it keeps its bytes, on a terminal it is escaped.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mpikit.errors import OutputError
from mpikit.text.redaction import redact

# What a terminal obeys, reorders or hides: C0 without tab and newline, DEL, C1, marks and overrides of direction, line
# and paragraph separators, lone surrogates, invisible tags. ECMA-48; Unicode's Bidi_Control.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)
_UNSAFE_IN_LOG = re.compile(_UNSAFE.pattern.replace("\x0b-\x1f", "\x0b\x0c\x0e-\x1f"))  # CR redraws a line
_SGR = re.compile("\x1b\\[[0-9;:]{0,64}m")  # colours and weights; ECMA-48, 8.3.117
_OWN_COLOURS = re.compile("\x1b\\[(?:0|31|32|33)m")  # those of display.painted


COMMAND = "python generate.py"
"""How messages name the command."""


def command_line() -> str:
    """Return how the user called the command: by the name of the installed script, or as a file of the checkout."""
    name = Path(sys.argv[0]).name
    return name if name == "vit-mpijob" else COMMAND


def visible(text: str) -> str:
    """Return `text` with every character escaped that controls a terminal, except tabs and newlines."""
    return _UNSAFE.sub(_escape, text)


def visible_log(line: bytes) -> str:
    """Return a line of a log for a terminal: tabs, carriage returns and whole colours stay, the rest is escaped.

    A sequence that is cut by the end of the line, or of what was read, is not whole: nothing waits for its rest.
    """
    text = line.decode("utf-8", "backslashreplace")
    return _except(_SGR, _UNSAFE_IN_LOG, text)


def talk(*lines: object) -> None:
    """Print lines for the user on stderr."""
    for line in lines:
        _write(sys.stderr, f"{visible(redact(str(line)))}\n")


def show(text: str) -> None:
    """Print a result on stdout."""
    _write(sys.stdout, f"{_for_stdout(redact(text))}\n")


def show_painted(text: str) -> None:
    """Print a result of view.py, which has escaped all but its own colours."""
    _write(sys.stdout, f"{_except(_OWN_COLOURS, _UNSAFE, redact(text))}\n")


def show_data(text: str) -> None:
    """Print a manifest on stdout: UTF-8 in any locale, without an added line; escaped on a terminal."""
    if sys.stdout.isatty():
        _write(sys.stdout, visible(text))
        return
    _write_bytes(text.encode())


def show_log(line: bytes) -> None:
    """Print a line of a log on stdout at once; a pipe or file gets its bytes unchanged."""
    if sys.stdout.isatty():
        _write(sys.stdout, f"{visible_log(line)}\n")
        return
    _write_bytes(line + b"\n")


class LiveLine:
    """A line at the foot of the terminal that stdout is, drawn again and again; other lines scroll above it."""

    def __init__(self) -> None:
        self.text = ""

    def draw(self, text: str) -> None:
        """Replace the live line, cut to the width of the terminal."""
        self.text = visible(text)
        width = shutil.get_terminal_size().columns - 1  # a full last column would begin a new line
        _write(sys.stdout, f"\r{self.text[:width]}\x1b[K")

    def show_above(self, line: bytes) -> None:
        """A line of a log, which stays; the live line is erased until the next `draw`."""
        self.erase()
        _write(sys.stdout, f"{visible_log(line)}\n")

    def erase(self) -> None:
        """Remove the live line."""
        if self.text:
            _write(sys.stdout, "\r\x1b[K")
        self.text = ""


def redraw(text: str) -> None:
    """Replace what the terminal shows by a text of view.py, cut to its height; in one write, so nothing flickers."""
    lines = _except(_OWN_COLOURS, _UNSAFE, redact(text)).split("\n")
    rows = lines[: max(1, shutil.get_terminal_size().lines - 1)]
    _write(sys.stdout, "\x1b[H" + "".join(f"{row}\x1b[K\n" for row in rows) + "\x1b[J")


def _for_stdout(text: str) -> str:
    return visible(text) if sys.stdout.isatty() else text


def _except(kept: re.Pattern[str], unsafe: re.Pattern[str], text: str) -> str:
    """Return `text` with unsafe characters escaped, except whole matches of `kept`."""
    pieces, end = [], 0
    for found in kept.finditer(text):
        pieces += [unsafe.sub(_escape, text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*pieces, unsafe.sub(_escape, text[end:])])


def _write(stream: TextIO, text: str) -> None:
    """Write and flush; what the stream's encoding lacks is escaped too. Advice names the command that was called."""
    text = text.replace(f"{COMMAND} ", f"{command_line()} ")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with _writing(stream):
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()


def _write_bytes(data: bytes) -> None:
    with _writing(sys.stdout):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _writing(stream: TextIO) -> Iterator[None]:
    """Raise OutputError if a result is lost. Lost talk is not an error; a reader that went away is the caller's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(stream)
        if stream is sys.stderr:
            return
        if isinstance(error, io.UnsupportedOperation):
            raise OutputError("standard output is closed", "leave out >&-, or write > FILE") from error
        fix = "free some space there, or write > FILE on another disk"
        raise OutputError(f"cannot write to standard output: {error.strerror}", fix) from error


def discard(stream: TextIO) -> None:
    """Drop what a stream cannot write, also at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def replace_closed_streams() -> None:
    """Open streams that the caller closed: no other file gets their numbers, and a lost result is an error."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY))  # each write fails
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
