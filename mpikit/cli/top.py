# SPDX-License-Identifier: Apache-2.0
"""The verb top: what each rank of a running job does now."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from mpikit.cli.context import CommandContext, Session
from mpikit.cli.help import Verb
from mpikit.cli.options import job_options
from mpikit.cli.view import BAD, coloured, painted
from mpikit.diagnostics import one_line, shortened
from mpikit.errors import JobError, NotFound
from mpikit.report.files import Row, Unreadable, number, objects, read_bytes, text, whole
from mpikit.report.verdict import SLOW_SCORE
from mpikit.text.terminal import show, show_painted, talk
from mpikit.text.units import duration

LIVE = "live.json"
LATE_SECONDS = 60.0  # a launcher writes the file every 15 s
MOST_ROWS = 24
MOST_NAMED = 8
MOST_TEXT = 60


@dataclass(frozen=True, slots=True)
class RankNow:
    """A rank in live.json; None where nothing was measured."""

    rank: int
    host: str
    phase: str
    step: int | None
    idle_seconds: float | None
    images_per_second: float | None
    data_seconds: float | None
    forward_seconds: float | None
    memory_bytes: int | None
    device_memory_bytes: int | None
    score: float | None = None
    """Time of the fastest forward pass / time of this rank's."""


@dataclass(frozen=True, slots=True)
class Record:
    """live.json of one moment, the slowest ranks first."""

    name: str
    age_seconds: float | None
    ranks: tuple[RankNow, ...]
    silent: tuple[str, ...]
    """Nodes without a report."""
    missing: tuple[int, ...]
    """Ranks of the job that no node reports."""


@click.command(cls=Verb)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format of the result.")
@job_options
@click.pass_obj
def top(context: CommandContext, name: str | None, output: str) -> None:
    """Show what each rank of a running job does now, the slowest first.

    NAME is a job, by default your newest, or the folder of a run on this machine. The launcher records the ranks every
    15 seconds in `output`. If that is not a folder of this machine, a small pod reads the record and is deleted.

    \b
        python generate.py top ada-vit-16cards
    """
    record = _record(context, name)
    if output == "json":
        show(json.dumps(asdict(record), indent=2))
        return
    show_painted(top_text(record, colour=coloured()))
    talk(*_warnings(record))


def _record(context: CommandContext, name: str | None) -> Record:
    """Return the newest record. Raises NotFound, JobError, ClusterError."""
    if name and Path(name).is_dir():
        return record_of(Path(name).name, _local(Path(name)), time.time(), shown_by=f"report {name}")
    if name and "/" in name:
        raise NotFound(f"{name} does not exist on this machine", "name a job, or the folder of a run")
    from mpikit.kube.api import MPIJOB, find
    from mpikit.kube.resources import MPIJob
    from mpikit.lifecycle.reader import read_run
    from mpikit.status.snapshot import no_job

    session = Session(context)
    name = session.chosen(name)
    found = find(session.cluster, MPIJOB, session.namespace, name)
    if found is None:
        raise no_job(name, session.namespace)
    job, run = MPIJob(found), MPIJob(found).annotations.get("mpikit/run", "")
    if job.finished:
        raise JobError(f"MPIJob {name} has ended, so it has no ranks", "python generate.py report shows its run")
    if not run:
        raise JobError(f"MPIJob {name} was not made by this kit, so no record of its ranks is known", "see `logs`")
    folder = Path(job.output, run)
    if job.output.startswith("/") and (folder / LIVE).is_file():
        content = _local(folder)
    else:
        files = read_run(session.cluster, session.namespace, found, run, [LIVE])
        content = files[LIVE].content if LIVE in files else b""
    slots = whole(found["spec"].get("slotsPerWorker")) or 1
    return record_of(name, content, session.cluster.now().timestamp(), job.workers, slots)


def _local(folder: Path) -> bytes:
    try:
        return read_bytes(folder / LIVE)
    except Unreadable:
        return b""


def record_of(name: str, content: bytes, now: float, workers: int = 0, slots: int = 0, shown_by: str = "") -> Record:
    """Return what live.json says. Raises NotFound without it.

    `workers`, `slots`: nodes of the job and ranks of each, if they are known. `shown_by`: the command that shows more.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        command = f"python generate.py {shown_by or f'status {name}'}"
        fix = f"{command} shows its state; ranks of jobs with restarts: {{max: 0}} write no record"
        raise NotFound(f"{name} has no record of running ranks ({LIVE} in the folder of its run)", fix)
    ranks = _scored([one for row in objects(found.get("ranks")) if (one := _rank(row))])
    written = number(found.get("time"))
    silent = found.get("silent")
    known = {one.rank for one in ranks}
    nodes = whole(found.get("nodes"))  # fewer while the job goes on without lost ones
    num_ranks = (workers if nodes is None else min(workers, nodes)) * slots
    return Record(
        name,
        None if written is None else max(0.0, now - written),
        tuple(ranks),
        tuple(shortened(host, MOST_TEXT) for host in silent if isinstance(host, str))
        if isinstance(silent, list)
        else (),
        tuple(sorted(set(range(num_ranks)) - known)),
    )


def _rank(row: Row) -> RankNow | None:
    rank = whole(row.get("rank"))
    if rank is None:
        return None
    return RankNow(
        rank=rank,
        host=shortened(text(row.get("host")), MOST_TEXT),
        phase=shortened(text(row.get("phase")), MOST_TEXT),
        step=whole(row.get("step")),
        memory_bytes=whole(row.get("memory_bytes")),
        device_memory_bytes=whole(row.get("device_memory_bytes")),
        **{
            name: number(row.get(name))
            for name in ("idle_seconds", "images_per_second", "data_seconds", "forward_seconds")
        },
    )


def _scored(ranks: list[RankNow]) -> list[RankNow]:
    """Return the ranks with their scores, the slowest first; those without a speed stand at the top."""
    fastest = min((one.forward_seconds for one in ranks if one.forward_seconds), default=0.0)
    scored = [
        replace(one, score=round(fastest / one.forward_seconds, 3)) if one.forward_seconds else one for one in ranks
    ]
    return sorted(
        scored, key=lambda one: (-1.0 if one.score is None else one.score, -(one.idle_seconds or 0), one.rank)
    )


def top_text(record: Record, *, colour: bool) -> str:
    """Return a sentence on the job and a table of its ranks."""
    steps = [one.step for one in record.ranks if one.step is not None]
    speeds = [one.images_per_second for one in record.ranks if one.images_per_second is not None]
    age = "at an unknown time" if record.age_seconds is None else f"{duration(record.age_seconds)} ago"
    parts = [f"{len(record.ranks)} ranks", f"step {max(steps, default=0)}"]
    if speeds:
        parts.append(f"{sum(speeds):.0f} images/s in all")
    lines = [f"{one_line(record.name)}  {', '.join(parts)}, seen {age}"]
    if record.ranks:
        lines += _table(record.ranks[:MOST_ROWS], colour=colour)
    if rest := record.ranks[MOST_ROWS:]:
        scores = [one.score for one in rest if one.score is not None]
        least = f", with a score of at least {min(scores):.2f}" if scores else ""
        lines.append(f"and {len(rest)} more ranks{least}; -o json lists all")
    return "\n".join(lines)


_HEADS = (
    "RANK",
    "HOST",
    "STEP",
    "PHASE",
    "SCORE",
    "IMAGES/S",
    "FORWARD",
    "DATA WAIT",
    "IDLE",
    "MEMORY",
    "DEVICE MEMORY",
)


def _table(ranks: tuple[RankNow, ...], *, colour: bool) -> list[str]:
    rows = [_HEADS, *(_cells(one) for one in ranks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["   ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    slow = [one.score is not None and one.score < SLOW_SCORE for one in ranks]
    return [
        lines[0],
        *(painted(line, BAD if colour and bad else None) for line, bad in zip(lines[1:], slow, strict=True)),
    ]


def _cells(one: RankNow) -> tuple[str, ...]:
    cells: tuple[Any, ...] = (
        *(one.rank, one_line(one.host), one.step, one_line(one.phase)),
        *(_shown(one.score, ".2f"), _shown(one.images_per_second, ".1f")),
        *(_milliseconds(one.forward_seconds), _milliseconds(one.data_seconds), _shown(one.idle_seconds, ".0f", " s")),
        *(_gib(one.memory_bytes), _gib(one.device_memory_bytes)),
    )
    return tuple("-" if cell is None else str(cell) for cell in cells)


def _shown(value: float | None, form: str, unit: str = "") -> str | None:
    return None if value is None else f"{value:{form}}{unit}"


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{1000 * seconds:.1f} ms"


def _gib(size: int | None) -> str | None:
    return None if size is None else f"{size / 2**30:.1f} GiB"


def _warnings(record: Record) -> list[str]:
    """Name what the record lacks."""
    found = []
    if record.age_seconds is not None and record.age_seconds > LATE_SECONDS:
        found.append(f"warning: the launcher has not renewed this record for {duration(record.age_seconds)}")
    if record.silent:
        found.append(f"warning: no report for 60 s from {_listed(record.silent)}")
    if record.missing and not record.silent:
        found.append(f"warning: no report of ranks {_listed(tuple(map(str, record.missing)))}")
    return [one_line(line) for line in found]


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
