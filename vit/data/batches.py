# SPDX-License-Identifier: Apache-2.0
"""Decoded uint8 batches of the training and validation images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vit.config import Config
from vit.data.cifar_mnist import open_archive
from vit.data.datasets import FolderSource, class_counts, large
from vit.data.folder_index import index_files
from vit.data.folders import skipped_text
from vit.data.sampler import PADDING, Key, sample_random
from vit.data.sources import Array, DamagedImage, Source, SyntheticSource
from vit.errors import DataError
from vit.images.resize import Resizer
from vit.images.transforms import TRANSFORMS, Erasing, Transform, centre_crop, squash, with_rand_augment
from vit.scaling import INCEPTION, Scaling

logger = logging.getLogger(__name__)

PADDING_LABEL = -1
MOST_DAMAGED = 10  # in a row: then it is not an image that is damaged, but the data set


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (B, S, S, 3), uint8 or normalised float32, and labels (B) int64, -1 for padding."""

    images: Tensor
    labels: Tensor
    damaged: tuple[str, ...] = ()
    """What was wrong with each file that could not be decoded."""
    remarks: tuple[str, ...] = ()
    """Warnings on files that were decoded."""


class DamageReport:
    """Warns of each image that cannot be decoded or is very large, once per rank."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def tell(self, batch: Batch, consequence: str) -> None:
        """Warn about damaged and large images of the batch that were not reported before."""
        for text in (*(f"{text}; {consequence}" for text in batch.damaged), *batch.remarks):
            if text not in self.told:
                self.told.add(text)
                logger.warning("%s", text)


@dataclass(frozen=True, slots=True)
class Findings:
    """What to report about the files of a batch, or of a part of it."""

    damaged: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def scaled(pixels: Array, scaling: Scaling) -> Array:
    """Pixels (..., 3) of 0 to 255 as the model's input, float32."""
    mean, std = (np.asarray(value, np.float32) for value in scaling.levels())
    found: Array = (pixels.astype(np.float32) - mean) / std
    return found


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Keys -> images and labels."""

    source: Source
    transform: Transform
    side: int
    seed: int
    replaces: bool
    """Whether the next image takes the place of a damaged one (training), or padding does (evaluation)."""
    scaling: Scaling = INCEPTION
    erasing: Erasing | None = None
    """Its noise needs more than bytes: images are normalised and float32 then."""

    @property
    def kind(self) -> str:
        """numpy's name of the images' values."""
        return "uint8" if self.erasing is None else "float32"

    def batch(self, keys: Sequence[Key]) -> Batch:
        """Return the batch in its own memory. Raises DataError."""
        images = np.empty((len(keys), self.side, self.side, 3), self.kind)
        labels = np.empty(len(keys), np.int64)
        found = self.fill(keys, images, labels)
        return Batch(torch.from_numpy(images), torch.from_numpy(labels), tuple(found.damaged), tuple(found.remarks))

    def fill(self, keys: Sequence[Key], images: Array, labels: Array) -> Findings:
        """Write the keys' images (B, S, S, 3) and labels (B); returns what to report. Raises DataError."""
        findings = Findings()
        for position, key in enumerate(keys):
            found = None if key == PADDING else self._load(key, findings)
            images[position], labels[position] = (0, PADDING_LABEL) if found is None else found
        return findings

    def _load(self, key: Key, findings: Findings) -> tuple[Array, int] | None:
        """Return the sample, or a substitute; damaged images are noted."""
        epoch, index = key
        for _ in range(MOST_DAMAGED):
            try:
                return self._sample(epoch, index, findings)
            except DamagedImage as error:
                findings.damaged.append(f"{error.where}: {error.what}")
                if not self.replaces:
                    return None
                index = (index + 1) % len(self.source)
                last = error
        raise DataError(last.where, f"{last.what}, like {MOST_DAMAGED - 1} images before it", "repair the data set")

    def _sample(self, epoch: int, index: int, findings: Findings) -> tuple[Array, int]:
        """Return the augmented image and its label; damage may show only now, when a part of the file is decoded."""
        random = sample_random(self.seed, (epoch, index))
        image = self.source.image(index)
        if large(image.shape):
            height, width = image.shape[:2]
            what = f"has {width:,} x {height:,} pixels: decoding takes {3 * width * height / 2**20:,.0f} MiB"
            findings.remarks.append(f"{self.source.where(index)}: {what}")
        pixels: Array = self.transform(image, self.side, random)
        if self.erasing is not None:
            pixels = scaled(pixels, self.scaling)
            self.erasing(pixels, random)
        return pixels, self.source.label(index)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and validation images with the same classes; an evaluation alone needs no training images."""

    train: Batches | None
    val: Batches
    class_names: list[str] = field(repr=False)

    @property
    def num_classes(self) -> int:
        """len(class_names)."""
        return len(self.class_names)

    @property
    def num_train(self) -> int:
        """Training images; 0 where none are needed."""
        return 0 if self.train is None else len(self.train.source)

    def fingerprint(self) -> tuple[int, int]:
        """Return a pair of numbers that differs when the lists of images do."""
        return 0 if self.train is None else self.train.source.fingerprint(), self.val.source.fingerprint()


def open_data(config: Config, *, with_train: bool = True) -> Data:
    """Return the data set named by the flags. Raises DataError."""
    train = open_source(config, "train") if with_train else None
    val = open_source(config, "val")
    if train is not None:
        _check_classes(train, val, config.data_path)
        _check_empty(train, config.data_path)
    common: dict[str, Any] = {"side": config.image_size, "seed": config.seed, "scaling": config.scaling}
    augmented = partial(Batches, transform=_augment(config), replaces=True, erasing=_erasing(config), **common)
    return Data(
        train=None if train is None else augmented(source=train),
        val=open_eval(config, val),
        class_names=val.class_names,
    )


def open_eval(config: Config, source: Source) -> Batches:
    """Return the images as an evaluation sees them."""
    resizer = _resizer(config)
    squashed = partial(squash, resizer=resizer)
    resize = squashed if config.eval_resize == "squash" else centre_crop(config.crop_pct, resizer)
    return Batches(
        source=source,
        transform=resize,
        replaces=False,
        side=config.image_size,
        seed=config.seed,
        scaling=config.scaling,
    )


def _augment(config: Config) -> Transform:
    base = partial(TRANSFORMS[config.augment], resizer=_resizer(config))
    return base if config.aa is None else with_rand_augment(base, config.aa)


def _resizer(config: Config) -> Resizer:
    return Resizer(config.interpolation or "bilinear", config.resize or "antialias")


def _erasing(config: Config) -> Erasing | None:
    return Erasing(config.reprob, config.remode) if config.reprob else None


def open_source(config: Config, split: str) -> Source:
    """Return the images of split "train" or "val". Raises DataError."""
    match config.dataset:
        case "synthetic":
            training = split == "train"
            return SyntheticSource(
                num_images=config.synthetic_images if training else max(1, config.synthetic_images // 10),
                num_classes=config.synthetic_classes,
                side=config.image_size,
                seed=config.seed if training else config.seed + 1,
            )
        case "imagenet1K" | "imagefolder":
            root = Path(config.data_path) / split
            return FolderSource(root, index_files(root, Path(config.output_dir)))
        case archive:
            return open_archive(archive, Path(config.data_path), split)


def _check_empty(train: Source, root: str) -> None:
    """Raise DataError if a class of a folder has no training images."""
    if not isinstance(train, FolderSource):
        return
    empty = [name for name, count in zip(train.class_names, class_counts(train), strict=True) if not count]
    if empty:
        skipped = skipped_text(train.index.skipped)
        what = f"contains no images ({len(empty)} such classes){skipped}"
        raise DataError(f"{root}/train/{empty[0]}", what, "put images there, or remove the folder from train/ and val/")


def _check_classes(train: Source, val: Source, root: str) -> None:
    only = sorted(set(train.class_names) ^ set(val.class_names))
    if only:
        where = "train" if only[0] in train.class_names else "val"
        what = f"train and val have different classes: {only[0]} is in {where} alone ({len(only)} such)"
        raise DataError(root, what, "make the folders in train/ and val/ agree")
