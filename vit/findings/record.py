# SPDX-License-Identifier: Apache-2.0
"""evaluation/ of a run: classes.json, samples.json and its pictures, of the last evaluation. A fault is a warning."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vit.config import Config
from vit.data.batches import Data
from vit.errors import TrainError
from vit.files import write_atomic
from vit.findings.pictures import Array, as_jpegs, fitted, masked, seen, shrunk, spread
from vit.findings.tally import Findings, Sample, Tally
from vit.run.folder import RunFolder
from vit.runtime.distributed import Group

logger = logging.getLogger(__name__)

FOLDER, CLASSES, SAMPLES = "evaluation", "evaluation/classes.json", "evaluation/samples.json"
PAIRS_WRITTEN, MAPS, SIDE = 100, 6, 160
COMPACT = (",", ":")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the findings of an evaluation go, and what they are about."""

    folder: RunFolder
    step: int
    config: Config
    data: Data
    maps: Callable[[int], Array] | None
    """Rollout (rows, columns) of a validation image; None for a hybrid, whose tokens have no place in the image."""


def write_findings(tally: Tally, group: Group, place: Place) -> None:
    """Write what all ranks found; called by all of them, and nothing that goes wrong on rank 0 is an error."""
    found = tally.over_ranks(group)
    if group.rank == 0:
        for write in (_write_classes, _write_samples):
            try:
                write(place, found)
            except Exception as error:  # a picture is not worth a run
                what = error.what if isinstance(error, TrainError) else error
                logger.warning(
                    "a part of %s is missing (%s): the evaluation itself is complete, and "
                    "python -m vit.evaluate --pretrained_dir %s writes all of it again",
                    *(place.folder.path / FOLDER, what, place.folder.path),
                )


def _write_classes(place: Place, found: Findings) -> None:
    rows = zip(place.data.class_names, *found.counts.tolist(), strict=True)
    classes = [
        {"class": number, "name": name, "images": images, "top1": top1, "top5": top5}
        for number, (name, images, top1, top5) in enumerate(rows)
    ]
    pairs = [{"true": true, "predicted": guess, "count": count} for true, guess, count in found.pairs[:PAIRS_WRITTEN]]
    images = int(found.counts[0].sum())
    _write_json(place, CLASSES, {"step": place.step, "images": images, "classes": classes, "pairs": pairs})


def _write_samples(place: Place, found: Findings) -> None:
    """Write samples.json last: without it there are no samples, and with it all of its pictures are there."""
    path = place.folder.path / FOLDER
    with place.folder.writing(SAMPLES):
        (place.folder.path / SAMPLES).unlink(missing_ok=True)
        for old in path.glob("*.jpg"):
            old.unlink()
    if not found.samples:
        return
    path.mkdir(exist_ok=True)
    pictures = _pictures(place, found.samples)
    for name, content in zip(pictures, as_jpegs(list(pictures.values())), strict=True):
        with place.folder.writing(f"{FOLDER}/{name}"):
            (path / name).write_bytes(content)
    rows = [_row(place, number, one, pictures) for number, one in enumerate(found.samples)]
    _write_json(place, SAMPLES, {"step": place.step, "samples": rows})


def _row(place: Place, number: int, sample: Sample, pictures: Mapping[str, Image.Image]) -> dict[str, Any]:
    attention = f"attention_{number:03d}.jpg"
    return {
        "file": f"sample_{number:03d}.jpg",
        "image": place.data.val.source.where(sample.image),
        "true": sample.label,
        "guesses": [[guess, round(share, 4)] for guess, share in sample.guesses],
        "attention": attention if attention in pictures else None,
    }


def _pictures(place: Place, samples: list[Sample]) -> dict[str, Image.Image]:
    """Return each image, and the first ones again under what the model looks at, by the names of their files."""
    config = place.config
    found = {}
    for number, sample in enumerate(samples):
        image = seen(place.data.val, sample.image, crop=config.eval_resize == "crop")
        found[f"sample_{number:03d}.jpg"] = shrunk(image, SIDE)
        if place.maps is not None and number < MAPS:
            size = fitted(image.size, SIDE)
            mask = spread(place.maps(sample.image), config.variant.patch, config.image_size, size)
            found[f"attention_{number:03d}.jpg"] = masked(image.resize(size, Image.Resampling.BICUBIC), mask)
    return found


def _write_json(place: Place, name: str, content: dict[str, Any]) -> None:
    path = place.folder.path / name
    with place.folder.writing(name):
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, json.dumps(content, separators=COMPACT, allow_nan=False) + "\n")
