# SPDX-License-Identifier: Apache-2.0
"""Run one job at a time in a thread beside training. Needs no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BEAT_SECONDS = 1.0


class Background:
    """A thread for one job at a time. The caller's next method call raises what the job raised."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._num_parts = 0

    def start(self, job: Callable[[], None]) -> None:
        """Wait for the job before, then start this one. Raises what `wait` raises."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint", daemon=True)
        self._thread.start()

    def note_progress(self) -> None:
        """Count one more part of the job as done; the job itself calls this."""
        self._num_parts += 1

    def raise_if_failed(self) -> None:
        """Raise what the job raised, if it has ended. Does not wait."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self, on_progress: Callable[[], None] = lambda: None) -> None:
        """Wait for the job and raise what it raised. Calls `on_progress` whenever the job has made progress."""
        thread, num_parts = self._thread, self._num_parts
        if thread is None:
            return
        while thread.is_alive():
            thread.join(BEAT_SECONDS)
            if self._num_parts != num_parts:
                num_parts = self._num_parts
                on_progress()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def ends_within(self, seconds: float) -> bool:
        """Wait for at most this long; return whether the job has ended."""
        end = time.monotonic() + seconds
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < end:
            self._thread.join(max(0.0, end - time.monotonic()))
        return self._thread is None or not self._thread.is_alive()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # the caller must fail as if it had done the job itself
            self._error = error
