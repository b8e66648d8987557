# SPDX-License-Identifier: Apache-2.0
"""Work that goes on beside training, in one thread. Needs no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable

BEAT_SECONDS = 1.0


class Background:
    """Runs one job at a time; what it raises is raised again where the run next looks, starts a job or waits."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._moves = 0

    def start(self, job: Callable[[], None], *, waiting: Callable[[], None] = lambda: None) -> None:
        """Start a job once the one before it has ended, in its own thread. Raises what `wait` raises."""
        self.wait(waiting)
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint")
        self._thread.start()

    def moved(self) -> None:
        """Note progress; the job calls it."""
        self._moves += 1

    def look(self) -> None:
        """Raise what the last job raised, if it has ended; wait for nothing."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Wait for the job, and raise what it raised. `waiting` is called each time that it has made progress."""
        thread, moves = self._thread, self._moves
        if thread is None:
            return
        while thread.is_alive():
            thread.join(BEAT_SECONDS)
            if self._moves != moves:
                moves = self._moves
                waiting()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # of any kind: the run must end as if it had done the job itself
            self._error = error
