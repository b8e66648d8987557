# SPDX-License-Identifier: Apache-2.0
"""Command lines of mpirun, in a container's command and in shell texts: how many ranks they start, and where.

Options: Open MPI 4 and 5 (mpirun, prterun), and Hydra of MPICH and Intel MPI. What a shell decides is not guessed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HOSTFILE = "/etc/mpi/hostfile"  # the operator's, with slotsPerWorker slots a worker
_PROGRAM = re.compile(r"(.*/)?(mpirun|mpiexec|orterun|prterun)([._-](hydra|mpich|openmpi\d*))?")
_PRINTS = ("echo", "printf", "which", "type", "exit", "export")
_PPR = re.compile(r"\bppr:(\d+):node")
_PUNCTUATION = frozenset("();<>|&")

_COUNT = ("np", "n", "c", "nprocs")
_PER_NODE = ("N", "npernode", "ppn", "perhost", "grr", "rr", "pernode")
_HOSTS = ("H", "host", "hosts", "hostfile", "machinefile", "f", "machine", "default-hostfile", "rankfile", "rf")
_PLACEMENT = ("map-by", "ppr")
_ONE = (
    *(*_HOSTS, *_PLACEMENT, "bind-to", "rank-by", "x", "wdir", "wd", "path", "prefix", "output-filename", "timeout"),
    *(
        "stdin",
        "s",
        "am",
        "app",
        "iface",
        "launcher",
        "bootstrap",
        "rmk",
        "launcher-exec",
        "bootstrap-exec",
        "slot-list",
    ),
    *("cpu-set", "cpu-list", "cpus-per-proc", "cpus-per-rank", "report-uri", "ompi-server", "personality", "output"),
    *("envlist", "genvlist", "outfile-pattern", "errfile-pattern", "umask", "tune", "display", "runtime-options"),
)
_TWO = ("mca", "gmca", "omca", "prtemca", "pmixmca", "genv", "env")


@dataclass(frozen=True, slots=True)
class Launch:
    """One command line of mpirun."""

    ranks: int | None = None
    """The number of -np, over all programs; None if it is not given or not a plain number."""
    own_hosts: bool = False
    """It names hosts other than the operator's hostfile."""
    placed: bool = False
    """It says how many ranks a node, socket or other resource gets."""
    per_node: int | None = None
    """The number of ranks of a node, if it is a plain number."""
    oversubscribes: bool = False
    """More ranks than slots are allowed."""


def launches(words: Sequence[object]) -> list[Launch]:
    """Return each mpirun of a container's command and args, also within a text for a shell."""
    texts = [word for word in words if isinstance(word, str)]
    found = [launch for word in texts if re.search(r"\s", word) for launch in launches_in(word)]
    place = next((number for number, word in enumerate(texts) if _PROGRAM.fullmatch(word)), None)
    return found if place is None else [*found, _launch(texts[place + 1 :])]


def launches_in(script: str) -> list[Launch]:
    """Return each mpirun of a shell script."""
    found = []
    for words in _commands(script):
        if words[0] not in _PRINTS:
            found += launches(words)
    return found


def _commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each simple command; a line with an open quote is split at its blanks."""
    for line in re.sub(r"\\\r?\n", " ", script).splitlines():
        words: list[str] = []
        for word in _words(line):
            if set(word) <= _PUNCTUATION:
                yield from (words,) if words else ()
                words = []
            else:
                words.append(word)
        yield from (words,) if words else ()


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return line.split()


def _launch(words: list[str]) -> Launch:
    """Return what the words after `mpirun` say; `:` starts the options of another program."""
    parts: list[list[str]] = [[]]
    for word in words:
        parts.append([]) if word == ":" else parts[-1].append(word)
    read = [_options(part) for part in parts]
    counts = [_number(one.get("count")) for one in read]
    named = {name: value for one in read for name, value in one.items()}
    return Launch(
        ranks=None if None in counts else sum(count or 0 for count in counts),
        own_hosts=named.get("hosts", HOSTFILE) != HOSTFILE,
        placed="per-node" in named or "ppr" in named.get("map-by", ""),
        per_node=_number(named.get("per-node") or "".join(_PPR.findall(named.get("map-by", "")))),
        oversubscribes="oversubscribe" in str(named).lower() and not {"no-oversubscribe", "nooversubscribe"} & {*named},
    )


def _options(words: list[str]) -> dict[str, str]:
    """Return the options up to the program: `count`, `hosts`, `per-node`, and others under their own names."""
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            break
        name, equals, value = word.lstrip("-").partition("=")
        if name in _TWO:
            found[f"{name} {next(rest, '')} {next(rest, '')}"] = ""
        elif (name in (*_COUNT, *_PER_NODE, *_ONE)) and not equals and name != "pernode":
            value = next(rest, "")
        role = "count" if name in _COUNT else "per-node" if name in _PER_NODE else "hosts" if name in _HOSTS else name
        if role != "hosts" or found.get("hosts", HOSTFILE) == HOSTFILE:
            found[role] = value
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None
