# SPDX-License-Identifier: Apache-2.0
"""RandAugment (arXiv:1909.13719) with timm's operations, strengths and way to write it: rand-m9-mstd0.5-inc1."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

STRONGEST = 10.0  # timm's scale of magnitudes
FILL = (128, 128, 128)  # grey where an image was moved away from; the mean of the reference's input
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)  # one is drawn for each operation
UNIFORM_ABOVE = 100  # an mstd beyond it means: any magnitude from 0 to m

Random = np.random.RandomState
Operation = Callable[[Image.Image, float, Random], Image.Image]
"""Image, strength from 0 to 1 (or more, with mmax) and the generator -> image of the same size."""


@dataclass(frozen=True, slots=True)
class RandAugment:
    """num_layers operations drawn with replacement, each applied with `probability` at a magnitude near `magnitude`."""

    magnitude: int = 10
    num_layers: int = 2
    probability: float = 0.5
    deviation: float = 0.0
    most: float = STRONGEST
    increasing: bool = False
    """Whether every operation grows stronger with its magnitude; as first published some do not."""

    def __call__(self, image: Image.Image, random: Random) -> Image.Image:
        """Return the image after its operations; the generator is all the randomness."""
        operations = list(INCREASING.values() if self.increasing else PLAIN.values())
        for choice in random.randint(0, len(operations), self.num_layers):
            if random.random_sample() <= self.probability:
                image = operations[choice](image, self._strength(random), random)
        return image

    def _strength(self, random: Random) -> float:
        magnitude = float(self.magnitude)
        if self.deviation > UNIFORM_ABOVE:
            magnitude = random.uniform(0, magnitude)
        elif self.deviation > 0:
            magnitude = random.normal(magnitude, self.deviation)
        return max(0.0, min(magnitude, self.most)) / STRONGEST


FIELDS = {
    "m": "magnitude",
    "n": "num_layers",
    "p": "probability",
    "mstd": "deviation",
    "mmax": "most",
    "inc": "increasing",
}


def parse(text: str) -> RandAugment:
    """Return the operations that a text such as rand-m9-mstd0.5-inc1 stands for. Raises ValueError."""
    first, *parts = text.split("-")
    if first != "rand":
        raise ValueError("it does not begin with rand")
    values: dict[str, float] = {}
    for part in parts:
        found = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
        if not found or found[1] not in FIELDS:
            raise ValueError(f"{part!r} is not one of {', '.join(f'{key}<number>' for key in FIELDS)}")
        values[FIELDS[found[1]]] = float(found[2])
    return RandAugment(
        magnitude=int(values.get("magnitude", STRONGEST)),
        num_layers=int(values.get("num_layers", 2)),
        probability=values.get("probability", 0.5),
        deviation=values.get("deviation", 0.0),
        most=values.get("most", STRONGEST),
        increasing=bool(values.get("increasing", 0)),
    )


def _either_way(value: float, random: Random) -> float:
    return -value if random.random_sample() > 0.5 else value


def _moved(matrix: Callable[[float], tuple[float, ...]], most: float) -> Operation:
    """Return an affine map whose one number is up to `most`, either way."""

    def apply(image: Image.Image, strength: float, random: Random) -> Image.Image:
        factor = _either_way(strength * most, random)
        resample = FILTERS[random.randint(0, 2)]
        return image.transform(image.size, Image.Transform.AFFINE, matrix(factor), resample, fillcolor=FILL)

    return apply


def _translated(axis: int) -> Operation:
    def apply(image: Image.Image, strength: float, random: Random) -> Image.Image:
        pixels = _either_way(strength * 0.45, random) * image.size[axis]
        matrix = (1, 0, 0 if axis else pixels, 0, 1, pixels if axis else 0)
        resample = FILTERS[random.randint(0, 2)]
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=FILL)

    return apply


def _rotated(image: Image.Image, strength: float, random: Random) -> Image.Image:
    degrees = _either_way(strength * 30, random)
    return image.rotate(degrees, FILTERS[random.randint(0, 2)], fillcolor=FILL)


def _posterized(keep: Callable[[int], int]) -> Operation:
    """Fewer bits a channel; `keep` of the level 0..4 that the strength stands for."""

    def apply(image: Image.Image, strength: float, _: Random) -> Image.Image:
        mask = 256 - 2 ** (8 - keep(int(strength * 4)))  # ImageOps.posterize refuses 0 bits since Pillow 13
        return image.point([value & mask for value in range(256)] * 3)

    return apply


def _solarized(threshold: Callable[[int], int]) -> Operation:
    """Channels from the threshold on inverted; `threshold` of the level 0..256 that the strength stands for."""

    def apply(image: Image.Image, strength: float, _: Random) -> Image.Image:
        return ImageOps.solarize(image, threshold(min(256, int(strength * 256))))

    return apply


def _brightened_darks(image: Image.Image, strength: float, _: Random) -> Image.Image:
    """Up to 110 added to every channel below 128 (timm's SolarizeAdd)."""
    add = min(128, int(strength * 110))
    table = [min(255, value + add) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance], *, away: bool) -> Operation:
    """Colour, contrast and the like by a factor: 0.1 to 1.9 with the strength, or up to 0.9 away from 1 either way."""

    def apply(image: Image.Image, strength: float, random: Random) -> Image.Image:
        factor = max(0.1, 1 + _either_way(strength * 0.9, random)) if away else strength * 1.8 + 0.1
        return kind(image).enhance(factor)

    return apply


ENHANCEMENTS: dict[str, Callable[[Image.Image], ImageEnhance._Enhance]] = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}
COMMON: dict[str, Operation] = {
    "AutoContrast": lambda image, _, __: ImageOps.autocontrast(image),
    "Equalize": lambda image, _, __: ImageOps.equalize(image),
    "Invert": lambda image, _, __: ImageOps.invert(image),
    "Rotate": _rotated,
    "SolarizeAdd": _brightened_darks,
    "ShearX": _moved(lambda factor: (1, factor, 0, 0, 1, 0), 0.3),
    "ShearY": _moved(lambda factor: (1, 0, 0, factor, 1, 0), 0.3),
    "TranslateXRel": _translated(0),
    "TranslateYRel": _translated(1),
}
PLAIN: dict[str, Operation] = {
    **COMMON,
    "Posterize": _posterized(lambda level: level),
    "Solarize": _solarized(lambda level: level),
    **{name: _enhanced(kind, away=False) for name, kind in ENHANCEMENTS.items()},
}
INCREASING: dict[str, Operation] = {
    **COMMON,
    "PosterizeIncreasing": _posterized(lambda level: 4 - level),
    "SolarizeIncreasing": _solarized(lambda level: 256 - level),
    **{f"{name}Increasing": _enhanced(kind, away=True) for name, kind in ENHANCEMENTS.items()},
}
