# SPDX-License-Identifier: Apache-2.0
"""Save checkpoints while training goes on: copy the state to host memory, then write it in a thread, one at a time.

Only rank 0 saves. Its host memory holds one copy of the state from the first step on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vit.errors import StorageError, TrainError
from vit.packages import reason_of
from vit.run import phases
from vit.run.background import Background
from vit.run.checkpoint import Tensors, folder_name, prune_checkpoints, save_checkpoint
from vit.run.folder import RunFolder
from vit.run.snapshot import Copier, Snapshot, on_cpu

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """A checkpoint to write."""

    tensors: Tensors
    ready: Callable[[], None]
    """Waits until the tensors are in host memory."""
    state: dict[str, Any]
    started: float


class Saver:
    """The writer of a run's checkpoints. Errors of a write are raised by the next call of any method."""

    def __init__(self, folder: RunFolder, device: Copier, *, keep_checkpoints: int) -> None:
        self.folder, self.keep_checkpoints = folder, keep_checkpoints
        self.snapshot, self.background = Snapshot(device), Background()

    def prepare(self, tensors: Tensors) -> None:
        """Allocate the host memory for such tensors in the background."""
        allocate = self.snapshot.prepare(tensors)

        def quietly() -> None:
            with contextlib.suppress(OSError):  # `save` tries again, and says what it means
                allocate()

        self.background.start(quietly)

    def save(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Copy the tensors, then write the checkpoint and point last and best at it, in the background.

        Waits for the checkpoint before it. Raises StorageError, LockedError.
        """
        started = time.perf_counter()
        self.background.wait(phases.beat)
        self.folder.verify()
        try:
            copies, ready = self.snapshot.take(tensors)
        except OSError as error:
            logger.warning(
                "no memory for a copy of the state (%s): training waits while checkpoints are written", reason_of(error)
            )
            self._start(on_cpu(tensors), lambda: None, state, started)
            self.background.wait(phases.beat)
        else:
            self._start(copies, ready, state, started)

    def _start(self, tensors: Tensors, ready: Callable[[], None], state: dict[str, Any], started: float) -> None:
        order = _Order(tensors=tensors, ready=ready, state=state, started=started)
        self.background.start(lambda: self._write(order))

    def look(self) -> None:
        """Raise the error of a write that has failed."""
        self.background.look()

    def finish(self) -> None:
        """Wait until the last checkpoint is written."""
        with phases.during("save"):
            self.background.wait(phases.beat)

    def finish_after_failure(self) -> None:
        """Wait as `finish` does; an error of the write is only a warning, as the run ends for another reason."""
        try:
            self.finish()
        except TrainError as error:
            logger.warning("%s", error)

    def _write(self, order: _Order) -> None:
        try:
            order.ready()
            self._write_and_point(order)
        except StorageError:
            self.folder.verify()  # a folder that was lost meanwhile is the better reason
            raise

    def _write_and_point(self, order: _Order) -> None:
        folder, state = self.folder, order.state
        folder.sync_metrics()
        folder.make_checkpoints()
        path = save_checkpoint(
            folder.checkpoints, order.tensors, state, confirm=folder.verify, moved=self.background.moved
        )
        folder.point("last", path.name)
        keep = {path.name}
        if state["best"] is not None:
            best = folder_name(state["best"]["step"])
            keep.add(best)
            if (folder.checkpoints / best).is_dir():
                folder.point("best", best)
        prune_checkpoints(folder.checkpoints, keep_last=self.keep_checkpoints, keep=keep)
        seconds = round(time.perf_counter() - order.started, 3)
        folder.add_event("checkpoint", state["step"], path=str(path), seconds=seconds)
