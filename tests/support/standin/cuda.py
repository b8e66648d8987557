# SPDX-License-Identifier: Apache-2.0
"""A stand-in for torch.cuda on a machine without a GPU: streams and events that write down what is asked of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch


class RecordingCuda:
    """What was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.num_events = 0
        self.names = iter(("copies", "saves"))  # in the order in which CudaDevice makes its streams

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> RecordingCuda:
        """Put it in the place of what vit.runtime.cuda uses of torch.cuda."""
        made = cls()
        current = Stream(made, "current")
        for name, stand_in in (
            ("is_available", lambda: True),
            ("device_count", lambda: 1),
            ("set_device", lambda device: made.asked.append(f"set device {device}")),
            ("Stream", lambda _device: Stream(made, next(made.names))),
            ("current_stream", lambda _device: current),
            ("stream", made.entered),
        ):
            monkeypatch.setattr(torch.cuda, name, stand_in)
        return made

    @contextlib.contextmanager
    def entered(self, stream: Stream) -> Iterator[None]:
        """Stand in for torch.cuda.stream."""
        self.asked.append(f"enter {stream.name}")
        yield
        self.asked.append(f"leave {stream.name}")


class Stream:
    """A stream."""

    def __init__(self, cuda: RecordingCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: Stream) -> None:
        """Note it."""
        self.cuda.asked.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: Event) -> None:
        """Note it."""
        self.cuda.asked.append(f"{self.name} waits for {event.name}")

    def record_event(self) -> Event:
        """Return a new event."""
        self.cuda.num_events += 1
        event = Event(self.cuda, f"e{self.cuda.num_events}")
        self.cuda.asked.append(f"{self.name} records {event.name}")
        return event


class Event:
    """An event."""

    def __init__(self, cuda: RecordingCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def synchronize(self) -> Any:
        """Note it."""
        self.cuda.asked.append(f"host waits for {self.name}")
