# SPDX-License-Identifier: Apache-2.0
"""What a model makes of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the model makes of one image."""

    index: int
    image: str
    """Its file, or its number in the data set."""
    truth: str | None
    """Its class, where the data set says it."""
    top: tuple[tuple[str, float], ...]
    """The best guesses with their probabilities, the best first."""
    maps: Array | None = None
    """Attention rollout of the layers so far, (L, rows, columns)."""

    @property
    def guess(self) -> str:
        """The best one."""
        return self.top[0][0]

    @property
    def wrong(self) -> bool:
        """Whether the class is known and another one."""
        return self.truth not in (None, self.guess)
