# SPDX-License-Identifier: Apache-2.0
"""What a model's input is: (pixel / 255 - mean) / std in each channel. Needs no numpy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Channels = tuple[float, float, float]
"""Red, green and blue, on a scale of 0 to 1."""

NAMED: dict[str, tuple[Channels, Channels]] = {
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # of the reference, and of timm's weights made from its files
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # of DeiT, DINO, MAE and most of timm's others
}
_SHARE = r"(0(\.\d+)?|\.\d+|1(\.0+)?)"
MEAN = re.compile(rf"inception|imagenet|{_SHARE},{_SHARE},{_SHARE}")
STD = re.compile("inception|imagenet|" + ",".join([rf"(?=[\d.]*[1-9]){_SHARE}"] * 3))


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and standard deviation of the pixels that the weights were trained on."""

    mean: Channels
    std: Channels

    def levels(self) -> tuple[Any, Any]:
        """Mean and std of pixels of 0 to 255; plain numbers where the channels have the same."""
        return tuple(255 * c[0] if len(set(c)) == 1 else tuple(255 * v for v in c) for c in (self.mean, self.std))  # type: ignore[return-value]


INCEPTION = Scaling(*NAMED["inception"])


def channels(text: str, part: int) -> Channels:
    """Return what a flag's text says: a name's mean (part 0) or std (part 1), or three numbers."""
    if text in NAMED:
        return NAMED[text][part]
    red, green, blue = (float(word) for word in text.split(","))
    return red, green, blue


def written(values: Channels) -> str:
    """Return the text of three numbers."""
    return ",".join(f"{value:.9g}" for value in values)
