# SPDX-License-Identifier: Apache-2.0
"""A run's state into a checkpoint, and back."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from vit.errors import StorageError
from vit.run import phases
from vit.run.checkpoint import Checkpoint, folder_name, prune_checkpoints, save_checkpoint
from vit.training.state import Session


def save(session: Session) -> None:
    """Write a checkpoint of this step, point last and best at it, drop old ones. Collective; rank 0 writes."""
    with phases.during("save"):
        _save(session)


def _save(session: Session) -> None:
    started = time.perf_counter()
    interval = session.meter.state(session.group, session.step)
    if session.group.rank == 0 and session.saved_step != session.step:
        state = {
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
        session.folder.verify()
        try:
            _write_checkpoint(session, state, started)
        except StorageError:
            session.folder.verify()  # a folder that was lost meanwhile is the better reason
            raise
    session.saved_step = session.step
    session.meter.add_save(time.perf_counter() - started)


def _write_checkpoint(session: Session, state: dict[str, Any], started: float) -> None:
    folder = session.folder
    folder.sync_metrics()
    tensors = {"model": _on_cpu(session.model.state_dict()), "optimizer": _on_cpu(session.optimizer.state_dict())}
    if session.average is not None:
        tensors["ema"] = _on_cpu(session.average.state_dict())
    folder.make_checkpoints()
    path = save_checkpoint(folder.checkpoints, tensors, state, confirm=folder.verify)
    folder.point("last", path.name)
    keep = {path.name}
    if session.best is not None:
        best = folder_name(session.best["step"])
        keep.add(best)
        if (folder.checkpoints / best).is_dir():
            folder.point("best", best)
    prune_checkpoints(folder.checkpoints, keep_last=session.config.keep_checkpoints, keep=keep)
    folder.add_event("checkpoint", session.step, path=str(path), seconds=round(time.perf_counter() - started, 3))
    folder.add_phases(session.step)


def _on_cpu(value: Any) -> Any:
    """Return the same nested dicts and lists with tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    return [_on_cpu(part) for part in value] if isinstance(value, list) else value


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
