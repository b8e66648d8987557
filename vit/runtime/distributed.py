# SPDX-License-Identifier: Apache-2.0
"""The process group and the few collectives that the trainer needs; every one is a no-op for a single process."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from vit.errors import HangError, IncompleteError, TrainError
from vit.runtime.agreement import agree
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Group:
    """All ranks of the run; `control` is a gloo group on the CPU for what must not touch the device."""

    def __init__(
        self, ranks: Ranks, device: Device, *, timeout_seconds: int, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Connect the ranks once their `facts` agree (vit.runtime.agreement). Raises ConfigError if they do not."""
        self.rank, self.world_size = ranks.rank, ranks.world_size
        self.timeout = timedelta(seconds=timeout_seconds)
        self.control: Any = None
        if self.world_size > 1:
            self._connect(device, facts or {"number of ranks": self.world_size})

    def _connect(self, device: Device, facts: Mapping[str, Any]) -> None:
        with named_faults():
            device.prepare_distributed()
            # An accelerator's backend kills the process when it times out: the control group must report first.
            patience = self.timeout if device.backend == "gloo" else 2 * self.timeout
            store = _open_store(self.rank, self.timeout)
            agree(store, self.rank, facts)
            dist.init_process_group(
                device.backend,
                store=store,
                rank=self.rank,
                world_size=self.world_size,
                timeout=patience,
            )
            self.control = dist.new_group(backend="gloo", timeout=self.timeout)

    def on_rank0(self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0 and give its result, or its TrainError, to every rank."""
        if self.world_size == 1:
            return work()
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = work()
            except TrainError as error:
                box[1] = error
        with named_faults():
            dist.broadcast_object_list(box, src=0, group=self.control)
        if box[1] is not None:
            box[1].shared = True  # rank 0 reports it, `shared` or not
            raise box[1]
        result: T = box[0]
        return result

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` on every rank; a TrainError of any of them is raised on all (the lowest rank's)."""
        result, mine = None, None
        try:
            result = work()
        except TrainError as error:
            mine = error
        for rank, found in enumerate(self.gather_objects(mine)):
            if found is not None:
                found.shared = rank != self.rank
                raise found
        return result  # type: ignore[return-value]  # no error, so work returned

    def sum(self, values: list[float]) -> list[float]:
        """Elementwise sum over ranks, in float64 on the CPU."""
        if self.world_size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        with named_faults():
            dist.all_reduce(total, group=self.control)
        return [float(value) for value in total]

    def gather(self, value: float) -> list[float]:
        """`value` of every rank, in rank order, on every rank."""
        return self.sum([value if rank == self.rank else 0.0 for rank in range(self.world_size)])

    def gather_objects(self, mine: T) -> list[T]:
        """`mine` of every rank, in rank order, on every rank."""
        if self.world_size == 1:
            return [mine]
        found: list[Any] = [None] * self.world_size
        with named_faults():
            dist.all_gather_object(found, mine, group=self.control)
        return found

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            with named_faults():
                dist.barrier(group=self.control)

    def broadcast_weights(self, model: nn.Module) -> None:
        """Give rank 0's parameters to every rank."""
        if self.world_size > 1:
            with named_faults(), torch.no_grad():
                for parameter in model.parameters():
                    dist.broadcast(parameter, src=0)

    def wrap(self, model: nn.Module, device: Device) -> nn.Module:
        """Return the model under DistributedDataParallel, or itself for one rank."""
        if self.world_size == 1:
            return model
        with named_faults():
            return nn.parallel.DistributedDataParallel(model, **device.ddp_options())


def _open_store(rank: int, timeout: timedelta) -> Any:
    """The store at MASTER_ADDR, which torchrun or else rank 0 serves; it does not wait for other ranks to connect."""
    elastic = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(  # type: ignore[attr-defined]  # torch does not list it as exported
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0 and not elastic,
        timeout=timeout,
        wait_for_workers=False,
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"vit {attempt}", store)  # type: ignore[attr-defined]  # neither this


class StopAgreement:
    """All ranks stop after the same step: each step starts a tiny reduction and reads the one before, done by then."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.pending: tuple[Any, torch.Tensor] | None = None

    def poll(self, asked: bool) -> bool:
        """True on every rank of the same step once any rank was asked to stop; called once a step."""
        if self.group.world_size == 1:
            return asked
        agreed = self._read()
        flag = torch.tensor([int(asked)])
        with named_faults():
            work = dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self.group.control, async_op=True)
        self.pending = (work, flag)
        return agreed

    def _read(self) -> bool:
        if self.pending is None:
            return False
        work, flag = self.pending
        with named_faults():
            work.wait()
        return bool(flag.numpy()[0])  # of the host, so the device is not waited for

    def finish(self) -> None:
        """Wait for the last step's reduction: no rank may leave while another still needs it."""
        self._read()


PEER_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")
TOO_LATE = ("Timed out", "timed out", "timeout", "Timeout")


@contextlib.contextmanager
def named_faults() -> Iterator[None]:
    """Turn torch's RuntimeErrors about lost or silent ranks into IncompleteError and HangError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if any(sign in text for sign in PEER_GONE):
            raise IncompleteError("ranks", "another rank was lost", "read its message above this one") from error
        if any(sign in text for sign in TOO_LATE):
            fix = "look at the node of the rank that is silent; the same command continues from the last checkpoint"
            raise HangError("ranks", "a rank did not answer within --rank_timeout_seconds", fix) from error
        raise
