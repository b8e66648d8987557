# SPDX-License-Identifier: Apache-2.0
"""What a person is told about a job before it is used: its numbers, and where its values came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mpikit.errors import one_line
from mpikit.job import Job
from mpikit.quoting import shown
from mpikit.reader import Key, dotted
from mpikit.redaction import masked
from mpikit.values import DEFAULT_LAYER, Values

MOST_LINES = 8  # more would push the command's own line off a small terminal; `check -v` has them all


def headline(job: Job) -> str:
    """The job in one sentence with every number that was derived."""
    ranks = f"{job.nodes} nodes x {job.cards} {job.device} = {job.num_ranks} ranks".replace("1 nodes", "1 node")
    parts = f"{job.num_ranks} ranks x {job.rank_batch} images"
    if job.train.gradient_accumulation_steps > 1:
        parts += f", in {job.train.gradient_accumulation_steps} micro-batches of {job.micro_batch}"
    return f"{job.job_name}: {ranks}; global batch {job.real_global_batch} = {parts}"


def notes(job: Job, values: Values) -> Iterator[str]:
    """Choices that the user should know of."""
    if job.train.train_batch_size and values.where(("train", "train_batch_size")) != "--smoke":
        batch = job.real_global_batch
        yield f"train.train_batch_size is set by hand: the global batch is {batch} and changes with nodes and cards"
    if job.synapse and job.release and job.release != job.synapse and not job.image:
        yield f'synapse "{job.synapse}" names no patch release: {job.release} is taken'


def once_more(job: Job) -> str:
    """What `kubectl apply` will not do by itself."""
    return f"A finished job of this name is not run again by kubectl apply: delete it, or --set name={job.another_name}"


def changed_values(values: Values) -> list[str]:
    """The values that differ from default.yaml, those of the flags first, each with the place where it was written."""
    rank = {layer.source: number for number, layer in enumerate(values.layers)}
    changed = [item for item in all_values(values) if _source(item[2]) != DEFAULT_LAYER]
    changed.sort(key=lambda item: -rank.get(_source(item[2]), 0))
    lines = [f"  {key}: {value}  ({where})" for key, value, where in changed]
    if len(lines) > MOST_LINES:
        more = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"  and {more} more: python generate.py check -v shows all"]
    return lines


def _source(where: str) -> str:
    """The file or flag of a place."""
    return re.sub(r":\d+:\d+$", "", where)


def all_values(values: Values) -> Iterator[tuple[str, str, str]]:
    """Every value as (dotted key, value, place)."""
    for key, value in _leaves(values.data, ()):
        yield one_line(dotted(key)), _told(masked(value)), one_line(values.where(key))


def _leaves(value: Any, prefix: Key) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*prefix, name))
    elif value not in ({}, []):
        yield prefix, value


def _told(value: Any) -> str:
    text = shown(value) if isinstance(value, str) and not value.isprintable() else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
