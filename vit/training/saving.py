# SPDX-License-Identifier: Apache-2.0
"""A run's state into a checkpoint, and back."""

from __future__ import annotations

import time
from typing import Any

from vit.run import phases
from vit.run.checkpoint import Checkpoint, Tensors
from vit.training.state import Session


def save(session: Session) -> None:
    """Start to save a checkpoint of this step (vit.run.saver), without waiting for the write. Collective."""
    with phases.during("save"):
        started = time.perf_counter()
        interval = session.meter.state(session.group, session.step)
        if session.group.rank == 0 and session.saved_step != session.step:
            session.saver.save(tensors_of(session), _state_of(session, interval))
            session.folder.add_phases(session.step)
        session.saved_step = session.step
        session.meter.add_save(time.perf_counter() - started)


def tensors_of(session: Session) -> Tensors:
    """Return the tensors of a checkpoint, as they are on the device."""
    tensors = {"model": session.model.state_dict(), "optimizer": session.optimizer.state_dict()}
    if session.average is not None:
        tensors["ema"] = session.average.state_dict()
    return tensors


def _state_of(session: Session, interval: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "step": session.step,
        "epoch": session.order.epoch_of(session.step),
        "best": session.best,
        "top1_percent": session.last_top1,
        "num_classes": session.data.num_classes,
        "class_names": session.data.class_names,
        "interval": interval,
        "identity": session.identity,
        "config": session.config.as_dict(),
    }


def restore(session: Session, checkpoint: Checkpoint) -> None:
    """Restore step, best, optimizer, average and the interval's sums; the model is filled already."""
    state = checkpoint.state
    session.step = session.saved_step = checkpoint.step
    session.best, session.last_top1 = state["best"], state["top1_percent"]
    if session.average is not None:
        session.average.load_state_dict(checkpoint.load("ema.pt"))
    if not session.config.eval_only:
        session.optimizer.load_state_dict(checkpoint.load("optimizer.pt"))
        session.meter.restore(state["interval"], session.group)
