# SPDX-License-Identifier: Apache-2.0
"""Random erasing (arXiv:1708.04896) of a normalised image, as timm does it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

EraseMode = Literal["const", "rand", "pixel"]
Image32 = np.ndarray[Any, np.dtype[np.float32]]

AREA = (0.02, 1 / 3)  # share of the image
ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 10  # to draw a rectangle that fits, then the image stays as it is


@dataclass(frozen=True, slots=True)
class Erasing:
    """One rectangle becomes 0 (const), one normal colour (rand) or normal noise (pixel), with a probability."""

    probability: float
    mode: EraseMode

    def __call__(self, image: Image32, random: np.random.RandomState) -> None:
        """Erase in place in the image (S, S, 3), normalised to [-1, 1]; the generator is all the randomness."""
        if random.random_sample() > self.probability:
            return
        height, width, channels = image.shape
        for _ in range(ATTEMPTS):
            area = random.uniform(*AREA) * height * width
            aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if rows < height and columns < width:
                top, left = random.randint(0, height - rows + 1), random.randint(0, width - columns + 1)
                shape = {"const": (), "rand": (1, 1, channels), "pixel": (rows, columns, channels)}[self.mode]
                filling = random.standard_normal(shape) if shape else 0.0
                image[top : top + rows, left : left + columns] = filling
                return
