# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """average = decay x average + (1 - decay) x weights after each step, on the device, in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average by one step."""
        for weight, parameter in zip(self.weights, self.model.parameters(), strict=True):
            weight.lerp_(parameter, 1 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average under the model's keys (the models have no buffers)."""
        names = (name for name, _ in self.model.named_parameters())
        return dict(zip(names, self.weights, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved average."""
        for (name, _), weight in zip(self.model.named_parameters(), self.weights, strict=True):
            weight.copy_(state[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average's weights within the block, and its own again after it, bit for bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, weight in zip(self.model.parameters(), self.weights, strict=True):
            own = parameter.detach().clone()
            parameter.copy_(weight)
            weight.copy_(own)
