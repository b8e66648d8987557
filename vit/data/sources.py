# SPDX-License-Identifier: Apache-2.0
"""Lists of labelled images: what all have in common, arrays in memory, invented ones."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import numpy as np

from vit.errors import DataError
from vit.images.pixels import Picture

Array = np.ndarray[Any, Any]


class DamagedImage(DataError):
    """One file is not an image; training continues without it."""


class Source(Protocol):
    """A list of images with labels."""

    class_names: list[str]

    def __len__(self) -> int: ...

    def image(self, index: int) -> Picture:
        """Image `index`. Raises DamagedImage, or DataError if the file cannot be read at all."""
        ...

    def label(self, index: int) -> int:
        """Its class as an index of class_names."""
        ...

    def where(self, index: int) -> str:
        """Return what to call image `index` when something is wrong with it: its file, where it has one."""
        ...

    def fingerprint(self) -> int:
        """Return a number that differs when the list does."""
        ...


class ArraySource:
    """Images (N, H, W) grey or (N, H, W, 3) uint8 in memory, with labels (N)."""

    def __init__(self, images: Array, labels: Array, class_names: list[str]) -> None:
        self.images, self.labels, self.class_names = images, labels, class_names

    def __len__(self) -> int:
        return len(self.images)

    def label(self, index: int) -> int:
        """Label number `index`."""
        return int(self.labels[index])

    def image(self, index: int) -> Array:
        """Image number `index`; grey becomes three equal channels."""
        image: Array = self.images[index]
        return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)

    def where(self, index: int) -> str:
        """Its number."""
        return f"image {index}"

    def fingerprint(self) -> int:
        """CRC-32 of the labels."""
        return zlib.crc32(self.labels.astype("<i8").tobytes())


class SyntheticSource:
    """Random images that nothing can be learnt from: for measuring speed and trying a set-up."""

    def __init__(self, *, num_images: int, num_classes: int, side: int, seed: int) -> None:
        self.num_images, self.side, self.seed = num_images, side, seed
        self.class_names = [f"class_{number:05d}" for number in range(num_classes)]

    def __len__(self) -> int:
        return self.num_images

    def label(self, index: int) -> int:
        """Classes in turn."""
        return index % len(self.class_names)

    def image(self, index: int) -> Array:
        """Noise that depends on seed and index alone."""
        noise = np.random.RandomState([self.seed, index, 2]).bytes(3 * self.side**2)
        return np.frombuffer(noise, np.uint8).reshape(self.side, self.side, 3)

    def where(self, index: int) -> str:
        """Its number."""
        return f"image {index}"

    def fingerprint(self) -> int:
        """Return the number of images."""
        return self.num_images
