# SPDX-License-Identifier: Apache-2.0
"""Values files that cost time or memory, or are no files at all; each made in a folder by its name."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

Maker = Callable[[Path], object]


def _text(text: str) -> Maker:
    return lambda path: path.write_text(text)


def _bomb() -> str:
    """Ten levels of ten aliases each: 10^10 values to a reader that follows them."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def _unreadable(path: Path) -> None:
    if os.geteuid():
        path.write_text("nodes: 1\n")
        path.chmod(0)
    else:  # root reads every file but its own memory at address 0
        path.symlink_to("/proc/self/mem")


# What makes it, and a word of what is said.
FILES: dict[str, tuple[Maker, str]] = {
    "alias bomb": (_text(_bomb()), "anchor"),
    "10 MB of one value": (_text("name: " + "x" * 10_000_000), "longer than 1 MiB"),
    "10 MB of keys": (_text("".join(f"key{n}: 1\n" for n in range(800_000))), "longer than 1 MiB"),
    "1 MB of keys": (_text("".join(f"key{n}: 1\n" for n in range(75_000))), "more than 10000 values"),
    "1 MB of commas": (_text(f"env: [{'1,' * 500_000}]"), "more than 10000 values"),
    "1 MB of quotes": (_text("name: " + '"' * 1_000_000), "not YAML"),
    "1 MB in one value": (_text("name: " + "x" * 1_000_000), "not a valid Kubernetes name"),
    "a key of 1 MB": (_text("? " + "k" * 1_000_000 + "\n: 1"), "no such key"),
    "9,000 unknown keys": (_text("".join(f"key{n}: 1\n" for n in range(9_000))), "further errors omitted"),
    "9,000 wrong numbers": (
        _text("resources: {limits: {" + "".join(f"k{n}: x, " for n in range(9_000)) + "}}"),
        "not a valid quantity",
    ),
    "3,000 equal variables": (_text("env:\n" + "- {name: A, value: b}\n" * 3_000), "is set 3000 times"),
    "1 MB of traps": (_text("env: [" + "no, " * 9_000 + "]"), "reads no as the boolean"),
    "10,000 brackets deep": (_text("a: " + "[" * 10_000 + "]" * 10_000), "nest"),
    "10,000 braces deep": (_text("{a: " * 10_000 + "1" + "}" * 10_000), "nested deeper than 30"),
    "1,000 indents deep": (_text("".join(" " * n + "a:\n" for n in range(1_000))), "nested deeper than 30"),
    "10,000 dashes deep": (_text("- " * 10_000), "nested deeper than 30"),
    "a dropped value 500 deep": (_text("nodes: 1\nnodes: " + "[" * 500 + "]" * 500), "given twice"),
    "a sparse file of 10 GiB": (_sparse, "longer than 1 MiB"),
    "a pipe": (os.mkfifo, "a pipe"),
    "a folder": (Path.mkdir, "a folder"),
    "a socket": (_socket, "a device or a socket"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "a device or a socket"),
    "a terminal": (lambda path: path.symlink_to("/dev/tty"), "a device or a socket"),
    "a loop of links": (lambda path: path.symlink_to(path), "cannot be read"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "no such file"),
    "an unreadable file": (_unreadable, "cannot be read"),
    "UTF-16": (lambda path: path.write_bytes("nodes: 2\n".encode("utf-16")), "UTF-16"),
    "latin-1": (lambda path: path.write_bytes("nodes: 2 # é\n".encode("latin-1")), "not UTF-8"),
    "NULs": (lambda path: path.write_bytes(b"nodes: 2\n\0"), "a NUL character"),
}

MANY = ("9,000 unknown keys", "9,000 wrong numbers", "3,000 equal variables", "1 MB of traps")
"""Those with more than one fault."""
