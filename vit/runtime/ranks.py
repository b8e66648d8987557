# SPDX-License-Identifier: Apache-2.0
"""Who this process is among the ranks, read from mpirun's or torchrun's environment. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vit.errors import ConfigError

LAZY_MODE = "PT_HPU_LAZY_MODE"  # of Habana's bridge; its default changed from 1 to 0 between SynapseAI 1.20 and 1.23

MOST_PORTS = 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process's place: global rank of world_size, local rank of local_size on its node."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1


def read_ranks(environ: Mapping[str, str]) -> Ranks:
    """Ranks from OMPI_COMM_WORLD_*, else RANK and WORLD_SIZE (torchrun), else one process alone."""
    if "OMPI_COMM_WORLD_RANK" in environ:
        names = tuple(f"OMPI_COMM_WORLD_{part}" for part in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE"))
    else:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, world_size = _number(environ, names[0], 0), _number(environ, names[1], 1)
    if not 0 <= rank < world_size:
        raise ConfigError(names[0], f"{rank} is not a rank of {names[1]}={world_size}", "set both or neither")
    if world_size > 1:
        _need_master(environ, world_size)
    local_size = _number(environ, names[3], world_size)
    if local_size < 1:
        raise ConfigError(
            names[3], f"{local_size} is not a number of ranks", "unset it or start under mpirun or torchrun"
        )
    return Ranks(
        rank=rank,
        world_size=world_size,
        local_rank=_number(environ, names[2], rank % local_size),
        local_size=local_size,
    )


def _number(environ: Mapping[str, str], name: str, absent: int) -> int:
    text = environ.get(name)
    if text is None:
        return absent
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            name, f'"{text}" is not a whole number', "unset it or start under mpirun or torchrun"
        ) from None


def _need_master(environ: Mapping[str, str], world_size: int) -> None:
    for name, example in (("MASTER_ADDR", "host of rank 0"), ("MASTER_PORT", "a free port there")):
        if not environ.get(name):
            raise ConfigError(
                name, f"is not set, but there are {world_size} ranks", f"export {name}=<{example}> (mpirun -x {name})"
            )
    port = _number(environ, "MASTER_PORT", 0)
    if not 0 < port <= MOST_PORTS:
        raise ConfigError("MASTER_PORT", f"{port} is not a port", f"give a number from 1 to {MOST_PORTS}")
