"""What a person is told about a job before it is used: its numbers, and where its values came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpikit.job import Job
from mpikit.reader import Key, dotted
from mpikit.values import DEFAULT_FILE, Values

MOST_LINES = 8  # more would push the command's own line off a small terminal; `check -v` has them all


def headline(job: Job) -> str:
    """The job in one sentence with every number that was derived."""
    ranks = f"{job.nodes} nodes x {job.cards} {job.device} = {job.num_ranks} ranks".replace("1 nodes", "1 node")
    parts = f"{job.num_ranks} ranks x {job.rank_batch} images"
    if job.train.gradient_accumulation_steps > 1:
        parts += f", in {job.train.gradient_accumulation_steps} micro-batches of {job.micro_batch}"
    return f"{job.job_name}: {ranks}; global batch {job.real_global_batch} = {parts}"


def notes(job: Job) -> Iterator[str]:
    """Choices that the user should know of."""
    if job.train.train_batch_size:
        batch = job.real_global_batch
        yield f"train.train_batch_size is set by hand: the global batch is {batch} and changes with nodes and cards"
    if job.synapse and job.release and job.release != job.synapse and not job.image:
        yield f'synapse "{job.synapse}" names no patch release: {job.release} is taken'


def changed_values(values: Values) -> list[str]:
    """The values that differ from default.yaml, those of the flags first, each with the place where it was written."""
    rank = {layer.source: number for number, layer in enumerate(values.layers)}
    changed = [(key, value, where) for key, value, where in all_values(values) if not where.endswith(_DEFAULT_PLACE)]
    changed.sort(key=lambda item: -rank.get(item[2].partition(":")[0], 0))
    lines = [f"  {key}: {value}  ({where})" for key, value, where in changed]
    if len(lines) > MOST_LINES:
        more = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"  and {more} more: python generate.py check -v shows all"]
    return lines


_DEFAULT_PLACE = " default"


def all_values(values: Values) -> Iterator[tuple[str, str, str]]:
    """Every value as (dotted key, value, place)."""
    for key, value in _leaves(values.data, ()):
        origin = values.origin(key)
        source = origin.source if origin else ""
        place = str(origin or "")
        yield dotted(key), _shown(value), f"{place}{_DEFAULT_PLACE}" if source.endswith(DEFAULT_FILE) else place


def _leaves(value: Any, prefix: Key) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*prefix, name))
    elif value not in ({}, []):
        yield prefix, value


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) and not value.isprintable() else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
