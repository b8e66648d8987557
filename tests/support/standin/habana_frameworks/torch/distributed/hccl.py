# SPDX-License-Identifier: Apache-2.0
"""hccl: gloo under Habana's name."""

import os

import torch.distributed as dist

from habana_frameworks import note

note("register hccl")
dist.Backend.register_backend(
    "hccl", lambda store, rank, size, timeout: dist.ProcessGroupGloo(store, rank, size, timeout), devices=["cpu"]
)


def initialize_distributed_hpu():
    note("initialize_distributed_hpu")
    return tuple(int(os.environ[name]) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
