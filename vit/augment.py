"""What is done to one image: a Pillow image and a generator -> (S, S, 3) uint8. The generator is all the randomness."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from vit.randaugment import parse

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Transform = Callable[[Image.Image, int, np.random.RandomState], Pixels]

CROP_AREA = (0.05, 1.0)  # of the reference: vit_jax/input_pipeline.py, sample_distorted_bounding_box
CROP_ASPECT = (3 / 4, 4 / 3)
CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop, then the whole image
SHIFT_FRACTION = 16  # shift moves by up to side / 16: 2 of 32 px


def squash(image: Image.Image, side: int, _: np.random.RandomState) -> Pixels:
    """The whole image at side x side, aspect not kept: the protocol of the published results."""
    return np.asarray(image if image.size == (side, side) else image.resize((side, side), Image.Resampling.BILINEAR))


def centre_crop(crop_pct: float) -> Transform:
    """The transform that resizes the shorter side to side / crop_pct and takes the centre, as timm and torchvision."""

    def crop(image: Image.Image, side: int, _: np.random.RandomState) -> Pixels:
        short = math.floor(side / crop_pct)
        width, height = image.size
        size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
        resized = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
        return np.asarray(resized.crop((left, top, left + side, top + side)))

    return crop


def inception(image: Image.Image, side: int, random: np.random.RandomState) -> Pixels:
    """A random crop of 5-100 % of the area at side x side, flipped half of the time."""
    box = crop_box(*image.size, random)
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if random.random_sample() < 0.5 else pixels


def shift(image: Image.Image, side: int, random: np.random.RandomState) -> Pixels:
    """The whole image moved by up to side / 16 px each way; the border repeats its edge."""
    reach = max(1, side // SHIFT_FRACTION)
    left, top = random.randint(0, 2 * reach + 1, 2)
    rows = np.clip(np.arange(side) + top - reach, 0, side - 1)
    columns = np.clip(np.arange(side) + left - reach, 0, side - 1)
    moved: Pixels = squash(image, side, random)[rows[:, None], columns]
    return moved


TRANSFORMS: dict[str, Transform] = {"inception": inception, "shift": shift, "none": squash}


def with_rand_augment(base: Transform, text: str) -> Transform:
    """`base`, then the RandAugment that `text` stands for."""
    augment = parse(text)

    def apply(image: Image.Image, side: int, random: np.random.RandomState) -> Pixels:
        pixels = np.ascontiguousarray(base(image, side, random))
        return np.asarray(augment(Image.fromarray(pixels), random))

    return apply


def crop_box(width: int, height: int, random: np.random.RandomState) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a crop whose area and aspect are drawn from CROP_AREA and CROP_ASPECT."""
    for _ in range(CROP_ATTEMPTS):
        area = width * height * random.uniform(*CROP_AREA)
        aspect = math.exp(random.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = random.randint(0, width - crop_width + 1), random.randint(0, height - crop_height + 1)
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height
