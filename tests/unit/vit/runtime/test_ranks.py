# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vit.errors import ConfigError
from vit.runtime.ranks import Ranks, read_ranks

MASTER = {"MASTER_ADDR": "h", "MASTER_PORT": "1"}


def test_mpirun_stands_above_torchrun() -> None:
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    mpi = {f"OMPI_COMM_WORLD_{name}": value for name, value in zip(names, "5814", strict=True)}
    ranks = read_ranks({**mpi, **MASTER, "RANK": "0", "WORLD_SIZE": "1"})
    assert ranks == Ranks(rank=5, world_size=8, local_rank=1, local_size=4)


def test_torchrun_is_read_and_a_process_alone_needs_nothing() -> None:
    assert read_ranks({"RANK": "1", "WORLD_SIZE": "2", **MASTER}).local_rank == 1
    assert read_ranks({}) == Ranks()


def test_one_rank_under_mpirun_needs_no_master() -> None:
    assert read_ranks({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}).world_size == 1


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR: is not set, but there are 2 ranks, export MASTER_ADDR="),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "h"}, "MASTER_PORT: is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2", **MASTER}, "RANK: 2 is not a rank of WORLD_SIZE=2"),
        ({"RANK": "one"}, 'RANK: "one" is not a whole number'),
    ],
)
def test_a_wrong_environment_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_ranks(environ)
    assert str(caught.value).startswith(message)
