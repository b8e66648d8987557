# SPDX-License-Identifier: Apache-2.0
"""Statuses as people read them: a few lines for one job, a table for many; colours only where they were asked for.

What a server wrote is escaped here, since colours pass the writer (terminal.show_painted).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

from mpikit.errors import one_line
from mpikit.progress import duration
from mpikit.status import Status

GOOD, BUSY, BAD = "32", "33", "31"  # ECMA-48 colours: green, yellow, red
_COLOURS = {
    **dict.fromkeys(("Running", "Succeeded"), GOOD),
    **dict.fromkeys(("Rejected", "ImagePullFailed", "Stalled", "Failed", "Evicted", "Unknown"), BAD),
}
MAX_WIDTH = 120


def painted(text: str, colour: str | None) -> str:
    """The text in a colour; None leaves it as it is."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def colour_of(verdict: str) -> str:
    """Colour of a verdict."""
    return _COLOURS.get(verdict.partition(" ")[0], BUSY)


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago; a dash if it is not known."""
    return duration((now - moment).total_seconds()) if moment else "-"


def status_text(status: Status, now: datetime, *, colour: bool, width: int = MAX_WIDTH) -> str:
    """One job in a few lines."""
    verdict = painted(status.verdict, colour_of(status.verdict) if colour else None)
    head = f"{one_line(status.name)}  {verdict}"
    if status.since:
        head += f"  for {ago(status.since, now)} (since {status.since:%Y-%m-%d %H:%M:%S} UTC)"
    rows = [("why", f"{status.reason}: {status.message}" if status.reason else status.message)]
    if status.progress:
        rows.append(("done", str(status.progress)))
    if status.pods[1] and not (status.finished and not status.held_cards):
        rows.append(("pods", f"{status.pods[0]} of {status.pods[1]} run, {status.held_cards} cards held"))
    rows += [("log" if number == 0 else "", line) for number, line in enumerate(status.last_lines)]
    rows.append(("next", status.advice))
    return "\n".join([head, *(_row(name, text, width) for name, text in rows)])


def _row(name: str, text: str, width: int) -> str:
    """A named line, folded under itself."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    indent = " " * 8
    folded = textwrap.wrap(clean, max(40, width) - 8, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join(f"{indent if number else f'  {name:<6}'}{line}" for number, line in enumerate(folded))


def status_line(status: Status) -> str:
    """One job in one line, for a log that grows."""
    done = f" ({status.progress})" if status.progress else ""
    return one_line(f"{status.name}: {status.verdict}{done}: {status.message}")


def table(statuses: Sequence[Status], now: datetime, *, colour: bool, namespaces: bool) -> str:
    """Jobs as kubectl would list them."""
    heads = ["NAME", "VERDICT", "NODES", "CARDS", "HOLDS", "AGE", "USER"]
    rows = [
        [s.name, s.verdict, str(s.workers), str(s.cards), str(s.held_cards), ago(s.created, now), s.user or "-"]
        for s in statuses
    ]
    if namespaces:
        heads.insert(0, "NAMESPACE")
        for row, status in zip(rows, statuses, strict=True):
            row.insert(0, status.namespace)
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    column = heads.index("VERDICT")
    lines = []
    for row in [heads, *rows]:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        if colour and row is not heads:
            cells[column] = painted(cells[column], colour_of(row[column]))
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def wasted(statuses: Sequence[Status]) -> list[str]:
    """What holds cards although it is finished, and how to free them."""
    return [
        one_line(f"{s.name} is {s.verdict} and still holds {s.held_cards} cards")
        + f"\n  fix: {one_line(f'python generate.py delete {s.name} -n {s.namespace}')}"
        for s in statuses
        if s.held_cards and (s.finished or s.verdict == "Deleted")
    ]
