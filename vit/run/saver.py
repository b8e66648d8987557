# SPDX-License-Identifier: Apache-2.0
"""Save checkpoints while training continues: copy the state to host memory, then write it in a thread.

Only rank 0 saves. From the first step on, its host memory holds one copy of the state.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vit.errors import StorageError
from vit.packages import reason_of
from vit.run import phases
from vit.run.background import Background
from vit.run.checkpoint import Tensors, folder_name, prune_checkpoints, save_checkpoint
from vit.run.folder import RunFolder
from vit.run.snapshot import Copier, Snapshot, on_cpu

logger = logging.getLogger(__name__)

LAST_SECONDS = 0.5  # for a write after a failure: 1 s after it the other ranks end, and mpirun then ends rank 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _PendingWrite:
    """A checkpoint to write."""

    tensors: Tensors
    ready: Callable[[], None]
    """Waits until the tensors are in host memory."""
    state: dict[str, Any]
    started: float


class Saver:
    """Writes a run's checkpoints, one at a time. The next method call raises the error of a write that failed."""

    def __init__(self, folder: RunFolder, device: Copier, *, keep_checkpoints: int) -> None:
        self.folder, self.keep_checkpoints = folder, keep_checkpoints
        self.snapshot, self.background = Snapshot(device), Background()
        self.abandoned = False
        """Whether the run ends without the checkpoint that is being written."""

    def prepare(self, tensors: Tensors) -> None:
        """Allocate the host memory for such tensors in the background."""
        allocate = self.snapshot.prepare(tensors)

        def quietly() -> None:
            with contextlib.suppress(OSError):  # `save` tries again and warns
                allocate()

        self.background.start(quietly)

    def save(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Copy the tensors; write the checkpoint, and point last and best at it, in the background.

        Waits for the checkpoint before. Raises StorageError, LockedError.
        """
        started = time.perf_counter()
        self.background.wait(phases.beat)
        self.folder.verify()
        try:
            copies, ready = self.snapshot.take(tensors)
        except OSError as error:
            logger.warning(
                "no memory for a copy of the state (%s): training waits for each checkpoint", error.strerror or error
            )
            self._start(on_cpu(tensors), lambda: None, state, started)
            self.background.wait(phases.beat)
        else:
            self._start(copies, ready, state, started)

    def _start(self, tensors: Tensors, ready: Callable[[], None], state: dict[str, Any], started: float) -> None:
        pending = _PendingWrite(tensors=tensors, ready=ready, state=state, started=started)
        self.background.start(lambda: self._write(pending))

    def raise_if_failed(self) -> None:
        """Raise the error of a write that has failed. Does not wait."""
        self.background.raise_if_failed()

    def finish(self) -> None:
        """Wait until the last checkpoint is written."""
        with phases.during("save"):
            self.background.wait(phases.beat)

    def finish_after_failure(self) -> None:
        """Give the write a moment, then abandon it: the error of the run must be reported before mpirun ends rank 0.

        An error of the write itself is only a warning.
        """
        if not self.background.ends_within(LAST_SECONDS):
            self.abandoned = True
            self.folder.hold()
            return
        try:
            self.background.wait()
        except Exception as error:  # of any kind: the run fails for another reason
            logger.warning("the last checkpoint was not written: %s", reason_of(error))

    def _confirm(self) -> None:
        if self.abandoned:
            raise StorageError(
                str(self.folder.path), "the run failed before its checkpoint was written", "read its log"
            )
        self.folder.verify()

    def _write(self, pending: _PendingWrite) -> None:
        try:
            pending.ready()
            self._write_and_point(pending)
        except StorageError:
            self.folder.verify()  # a folder that was lost meanwhile is the better reason
            raise

    def _write_and_point(self, pending: _PendingWrite) -> None:
        folder, state = self.folder, pending.state
        folder.sync_metrics()
        folder.make_checkpoints()
        path = save_checkpoint(
            folder.checkpoints,
            pending.tensors,
            state,
            confirm=self._confirm,
            on_progress=self.background.note_progress,
        )
        folder.point("last", path.name)
        keep = {path.name}
        if state["best"] is not None:
            best = folder_name(state["best"]["step"])
            keep.add(best)
            if (folder.checkpoints / best).is_dir():
                folder.point("best", best)
        prune_checkpoints(folder.checkpoints, keep_last=self.keep_checkpoints, keep=keep)
        seconds = round(time.perf_counter() - pending.started, 3)
        folder.add_event("checkpoint", state["step"], path=str(path), seconds=seconds)
