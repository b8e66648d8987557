# SPDX-License-Identifier: Apache-2.0
"""Statuses as people read them: a few lines for one job, a table for many; colours only where they were asked for.

What a server wrote is escaped here, since colours pass the writer (terminal.show_painted).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mpikit.diagnostics import Diagnostic, one_line, shortened
from mpikit.text.bars import EMPTY, FULL, LEVELS, bar, sparkline
from mpikit.text.nested import Key, dotted
from mpikit.text.quoting import shown
from mpikit.text.redaction import masked
from mpikit.text.terminal import redraw, show, show_data, show_painted
from mpikit.text.units import duration

if TYPE_CHECKING:
    from mpikit.config.job import Job
    from mpikit.config.values import Values
    from mpikit.status.progress import Progress
    from mpikit.status.verdict import Status

GOOD, BUSY, BAD = "32", "33", "31"  # ECMA-48 colours: green, yellow, red
_COLOURS = {
    **dict.fromkeys(("Running", "Succeeded"), GOOD),
    **dict.fromkeys(("Rejected", "ImagePullFailed", "Stalled", "Failed", "Evicted", "Unknown"), BAD),
}
MAX_WIDTH = 120
BAR_WIDTH, SHORT_BAR_WIDTH, CURVE_WIDTH = 20, 5, 40
MOST_CHARACTERS = 80  # of a value
MOST_EVENT = 300


def painted(text: str, colour: str | None) -> str:
    """Return the text in a colour; None leaves it as it is."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def colour_of(verdict: str) -> str:
    """Return the colour of a verdict."""
    return _COLOURS.get(verdict.partition(" ")[0], BUSY)


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago it was, or a dash if that is not known."""
    return duration((now - moment).total_seconds()) if moment else "-"


def status_text(status: Status, now: datetime, *, colour: bool, width: int = MAX_WIDTH, drawn: bool = False) -> str:
    """Return one job in a few lines; `drawn` adds bars and the curve of the loss."""
    verdict = painted(status.verdict, colour_of(status.verdict) if colour else None)
    return "\n".join([_head(status, now, verdict), *(_row(*row, width) for row in _rows(status, drawn=drawn))])


def panel_text(status: Status, now: datetime, *, colour: bool, width: int = MAX_WIDTH, drawn: bool = False) -> str:
    """Return the panel of `status --watch`: also the workers by state, and the last event."""
    verdict = painted(status.verdict, colour_of(status.verdict) if colour else None)
    *rows, advice = _rows(status, drawn=drawn)
    if status.worker_states and not status.finished:
        rows.append(("nodes", ", ".join(f"{number} {state}" for state, number in status.worker_states)))
    if status.last_event:
        moment, event = status.last_event
        rows.append(("last", shortened(f"{ago(moment, now)} ago: {event}" if moment else event, MOST_EVENT)))
    return "\n".join([_head(status, now, verdict), *(_row(*row, width) for row in (*rows, advice))])


def _head(status: Status, now: datetime, verdict: str) -> str:
    since = f"  for {ago(status.since, now)} (since {status.since:%Y-%m-%d %H:%M:%S} UTC)" if status.since else ""
    return f"{one_line(status.name)}  {verdict}{since}"


def _rows(status: Status, *, drawn: bool) -> list[tuple[str, str]]:
    """Return the named lines of a job, the advice last."""
    rows = [("why", f"{status.reason}: {status.message}" if status.reason else status.message)]
    if status.progress:
        rows += _progress_rows(status.progress, drawn=drawn)
    if status.goodput:
        rows.append(("time", status.goodput[1]))
    if status.pods[1] and not (status.finished and not status.held_cards):
        pods = f"{status.pods[0]} of {status.pods[1]} run, {status.held_cards} cards held"
        rows.append(("pods", f"{bar(*status.pods, BAR_WIDTH)} {pods}" if drawn else pods))
    rows += [("log" if number == 0 else "", line) for number, line in enumerate(status.last_lines)]
    return [*rows, ("next", status.advice)]


def _progress_rows(progress: Progress, *, drawn: bool) -> Iterator[tuple[str, str]]:
    if not drawn:
        yield "done", str(progress)
        return
    steps = f"{bar(progress.step, progress.num_steps, BAR_WIDTH)} " if progress.num_steps else ""
    yield "done", f"{steps}{progress}"
    if len(progress.losses) > 1:
        curve = sparkline(progress.losses, CURVE_WIDTH)
        yield "loss", f"{curve} {progress.losses[0]:.3g} to {progress.losses[-1]:.3g}"


def _row(name: str, text: str, width: int) -> str:
    """Return a named line, folded under itself."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    indent = " " * 8
    folded = textwrap.wrap(clean, max(40, width) - 8, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join(f"{indent if number else f'  {name:<6}'}{line}" for number, line in enumerate(folded))


def status_line(status: Status) -> str:
    """Return one job in one line, for a log that grows."""
    done = f" ({status.progress})" if status.progress else ""
    return one_line(f"{status.name}: {status.verdict}{done}: {status.message}")


def table(statuses: Sequence[Status], now: datetime, *, colour: bool, namespaces: bool, drawn: bool = False) -> str:
    """Format jobs as a table, as kubectl does; `drawn` adds bars of the cards that are held."""
    heads = ["NAME", "VERDICT", "NODES", "CARDS", "HOLDS", "GOODPUT", "AGE", "USER"]
    rows = [
        [
            *(s.name, s.verdict, str(s.workers), str(s.cards), _held(s, drawn=drawn)),
            *(f"{s.goodput[0]:.0f} %" if s.goodput else "-", ago(s.created, now), s.user or "-"),
        ]
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


def _held(status: Status, *, drawn: bool) -> str:
    held = str(status.held_cards)
    return f"{bar(status.held_cards, status.cards, SHORT_BAR_WIDTH)} {held}" if drawn and status.cards else held


def wasted(statuses: Sequence[Status]) -> list[str]:
    """Name the finished jobs that still hold cards, and how to free them."""
    return [
        one_line(f"{s.name} is {s.verdict} and still holds {counted(s.held_cards, 'card')}")
        + f"\n  fix: {one_line(f'python generate.py delete {s.name} -n {s.namespace}')}"
        for s in statuses
        if s.held_cards and (s.finished or s.verdict == "Deleted")
    ]


MOST_LINES = 8  # more would push the command's own line off a small terminal; `check -v` has them all


def counted(number: int, noun: str) -> str:
    """Return 1 rank, 2 ranks."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def headline(job: Job) -> str:
    """Return the job in one sentence with every number that was derived."""
    ranks = counted(job.num_ranks, "rank")
    parts = f"{ranks} x {counted(job.rank_batch, 'image')}"
    if job.train.gradient_accumulation_steps > 1:
        parts += f", in {job.train.gradient_accumulation_steps} micro-batches of {job.micro_batch}"
    nodes = f"{counted(job.nodes, 'node')} x {job.cards} {job.device}"
    return f"{job.job_name}: {nodes} = {ranks}; global batch {job.real_global_batch} = {parts}"


def placement(job: Job) -> str:
    """Return what keeps two workers off one node; empty for a single worker."""
    return {
        "single": "",
        "whole": f"one worker per node: its {job.cards} cards are all that a node has",
        "required": "one worker per node: worker.onePerNode is true",
        "preferred": "one worker per node where possible; worker.onePerNode: true requires it",
        "own": "workers are spread as worker.podSpec.topologySpreadConstraints says",
    }[job.placement]


def notes(job: Job, values: Values) -> Iterator[str]:
    """Yield the choices that the user should know of."""
    from mpikit.config.layers import USER_LAYER

    for one in values.removed:
        if one.where.source == USER_LAYER or not one.where.source.startswith("values/"):
            yield f"removed: {one_line(dotted(one.key))} of {one.source}  ({one_line(str(one.where))})"
    if job.train.train_batch_size and values.where(("train", "train_batch_size")) != "--smoke":
        batch = job.real_global_batch
        yield f"train.train_batch_size is set by hand: the global batch is {batch} and changes with nodes and cards"
    if job.restarts.min_nodes and job.restarts.min_nodes < job.nodes:
        counts = ", ".join(str(count) for count in reversed(job.node_counts[:-1]))
        yield f"restarts.minNodes: while nodes are lost, the job goes on with {counts} of {job.nodes} nodes"
    if job.synapse and job.release and job.release != job.synapse and not job.image:
        yield f'synapse "{job.synapse}" has no patch release: {job.release} is used'


def once_more(job: Job) -> str:
    """Return what `kubectl apply` will not do by itself."""
    return f"kubectl apply does not run a finished job again: delete it, or --set name={job.another_name}"


def changed_values(values: Values) -> list[str]:
    """Return the values that differ from default.yaml with their places, those of the flags first."""
    from mpikit.config.layers import DEFAULT_LAYER

    rank = {layer.source: number for number, layer in enumerate(values.layers)}
    base = {DEFAULT_LAYER, f"values/{values.profile}.yaml"}
    sources = [(_source(values, key), _line(values, key, value)) for key, value in _leaves(values.data, ())]
    changed = [pair for pair in sources if pair[0] not in base]
    changed.sort(key=lambda pair: -rank.get(pair[0], 0))
    lines = [line for _, line in changed]
    if len(lines) > MOST_LINES:
        more = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"  and {more} more: python generate.py check -v shows all"]
    return lines


def _source(values: Values, key: Key) -> str:
    """Return the file or flag in which a value was written; empty for a default."""
    origin = values.origin(key)
    return origin.source if origin else ""


def all_values(values: Values) -> list[str]:
    """Return every value with its place, one a line."""
    return [_line(values, key, value) for key, value in _leaves(values.data, ())]


def _line(values: Values, key: Key, value: Any) -> str:
    return f"  {one_line(dotted(key))}: {_told(masked(value))}  ({one_line(values.where(key))})"


def _leaves(value: Any, prefix: Key) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*prefix, name))
    elif value not in ({}, []):
        yield prefix, value


def _told(value: Any) -> str:
    text = shown(value) if isinstance(value, str) and not value.isprintable() else str(value)
    return shortened(text, MOST_CHARACTERS)


def coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def drawable() -> bool:
    """Return whether stdout is a terminal that shows block characters."""
    try:
        f"{FULL}{EMPTY}{LEVELS}".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return sys.stdout.isatty()


def _width() -> int:
    return min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)


def show_result(
    output: str, value: Any, text: Callable[[], str], names: Iterable[str], show_text: Callable[[str], None] = show
) -> None:
    """Print a result in the form that -o asks for."""
    from mpikit.text.quoting import yaml_filter

    match output:
        case "json":
            show(json.dumps(value, indent=2))
        case "yaml":
            show(yaml_filter(value))
        case "name":
            show("\n".join(f"mpijob.kubeflow.org/{name}" for name in names))
        case _:
            show_text(text())


def show_manifest(text: str) -> None:
    """Print manifests: whole into a pipe or a file, and on a terminal without the base64 of the trainer."""
    from mpikit.render.payload import without_archive

    show_data(without_archive(text) if sys.stdout.isatty() else text)


def show_status(status: Status, now: datetime, output: str) -> None:

    def text() -> str:
        return status_text(status, now, colour=coloured(), width=_width(), drawn=drawable())

    show_result(output, status.as_dict(), text, [status.name], show_painted)


def show_panel(status: Status, now: datetime, seconds: float) -> None:
    """Draw the panel of `status --watch` over the one before."""
    text = panel_text(status, now, colour=coloured(), width=_width(), drawn=drawable())
    leave = "" if status.finished else f"\n\nupdated every {seconds:.0f} s or sooner; Ctrl-C leaves the job running"
    redraw(text + leave)


def check_text(check: Diagnostic) -> str:
    """Return what `doctor` says of one thing that it has looked at."""
    colours = {"ok": GOOD, "warning": BUSY, "fault": BAD}
    label = f"{check.severity.upper() if check.severity == 'fault' else check.severity:<7}"
    head = painted(label, colours[check.severity] if coloured() else None)
    said = one_line(f"{check.key}: {check.message}")
    return f"{head}  {said}" + (f"\n         fix: {one_line(check.fix)}" if check.fix else "")
