# SPDX-License-Identifier: Apache-2.0
"""What all ranks must have in common before step 1: flags, versions, decoders, the trainer's code.

Each rank puts its facts into the store of the rendezvous, rank 0 compares them, and every rank reads the verdict. No
collective has run by then, since ranks whose flags differ would not run the same ones.

An error: whatever changes weights or pixels, or makes ranks take other steps. A warning, WARN_ONLY: Python's version,
the card's name, and how JPEG files are decoded, since every way gives the same pixels. Not compared: LOCAL_FLAGS.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vit.errors import ConfigError

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

Facts = Mapping[str, Any]

LOCAL_FLAGS = ("data_path", "num_workers", "read_timeout_seconds")
"""Flags that may differ between nodes: the data themselves are compared, and the rest changes no result."""
WARN_ONLY = ("Python", "card", "JPEG decoder", "JPEG crops")
SAME_FLAGS, SAME_IMAGE = "start all ranks with the same command", "use the same image and the same files on all nodes"
MOST_NAMED = 4


class Store(Protocol):
    """The part of torch's Store that is needed."""

    def set(self, key: str, value: str, /) -> Any:
        """Put a value there."""

    def get(self, key: str, /) -> bytes:
        """Wait for the value."""


def host_name() -> str:
    """Return the name of this node; in a pod that is the pod's."""
    return socket.gethostname()


def agree(store: Store, rank: int, facts: Facts) -> None:
    """Compare the facts of all ranks. Raises the same ConfigError on each rank if they disagree."""
    store.set(f"facts {rank}", json.dumps([host_name(), facts]))
    if rank == 0:
        verdict = _verdict(store, int(facts["number of ranks"]))
        store.set("verdict", json.dumps(verdict))
    verdict = json.loads(store.get("verdict"))
    for text in verdict["warnings"] if rank == 0 else ():
        logger.warning("%s", text)
    if verdict["error"] is None:
        return
    store.set(f"read {rank}", "")
    for other in range(verdict["ranks"] if rank == 0 else 0):  # rank 0 is the store: it leaves last
        store.get(f"read {other}")
    error = ConfigError(*verdict["error"])
    error.shared = True
    raise error


def _verdict(store: Store, world_size: int) -> dict[str, Any]:
    """Compare what the ranks have put there, up to the first that counts another number of them."""
    hosts, facts = [], []
    for rank in range(world_size):
        host, found = json.loads(store.get(f"facts {rank}"))
        hosts.append(host)
        facts.append(found)
        if found["number of ranks"] != world_size:
            break
    error, warnings = compare(hosts, facts)
    return {"error": error, "warnings": warnings, "ranks": len(facts)}


def compare(hosts: Sequence[str], facts: Sequence[Facts]) -> tuple[tuple[str, str, str] | None, list[str]]:
    """Return the arguments of the error, None if there is none, and the warnings."""
    names = dict.fromkeys(name for one in facts for name in one)
    different = [name for name in names if len({repr(one.get(name)) for one in facts}) > 1]
    warnings = [f"{name}: {_disagreement(hosts, facts, name)}" for name in different if name in WARN_ONLY]
    wrong = [name for name in different if name not in WARN_ONLY]
    if not wrong:
        return None, warnings
    first, *rest = wrong
    texts = [_disagreement(hosts, facts, first)]
    texts += [f"{name}: {_disagreement(hosts, facts, name)}" for name in rest[: MOST_NAMED - 1]]
    texts += [f"{len(wrong) - MOST_NAMED} more differ"] if len(wrong) > MOST_NAMED else []
    fix = SAME_FLAGS if first.startswith("--") or first == "number of ranks" else SAME_IMAGE
    return (first, "; ".join(texts), fix), []


def _disagreement(hosts: Sequence[str], facts: Sequence[Facts], name: str) -> str:
    """Return which ranks have which value, the most frequent one last: `rank 3 on node-b has 0.1, the others 0.03`."""
    groups: dict[str, list[int]] = {}
    for rank, one in enumerate(facts):
        groups.setdefault(_shown(one.get(name)), []).append(rank)
    *few, (value, most) = sorted(groups.items(), key=lambda group: (len(group[1]), -group[1][0]))
    parts = [f"{_named(ranks, hosts)} {'has' if len(ranks) == 1 else 'have'} {shown}" for shown, ranks in few]
    others = f"rank {most[0]} has" if len(most) == 1 else "the others"
    return ", ".join([*parts, f"{others} {value}"])


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)


def _named(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    """Return `rank 3 on node-b`, or `ranks 0-7, 9 on node-a and 2 more nodes`."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    spans = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    shown = ", ".join(spans[:MOST_NAMED]) + (", ..." if len(spans) > MOST_NAMED else "")
    nodes = list(dict.fromkeys(hosts[rank] for rank in ranks))
    more = f" and {len(nodes) - 1} more nodes" if len(nodes) > 1 else ""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {shown} on {nodes[0]}{more}"
