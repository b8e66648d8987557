# SPDX-License-Identifier: Apache-2.0
"""How images become a model's input, where no flag says it: from the checkpoint or a file beside the weights.

Flags win, then what the checkpoint was made with, then timm's config.json or Hugging Face's preprocessor_config.json in
the weights' folder, then the reference's values. An evaluation of an .npz (Google's published files) resizes without
antialiasing, as the reference does, unless a flag says otherwise. Needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vit.config import Config
from vit.scaling import MEAN, STD, written

DEFAULTS = {"mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5", "interpolation": "bilinear", "resize": "antialias"}
"""The reference's values, but for resize: training has always been antialiased here."""
FILES = ("preprocessor_config.json", "config.json")
RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which Hugging Face's files have
FILTERS = tuple(RESAMPLE.values())
MOST_BYTES = 2**20

Found = dict[str, str]


def settle(config: Config, saved: Mapping[str, Any] | None, *, evaluating: bool) -> tuple[Config, list[str]]:
    """Return the config with mean, std, interpolation and resize filled in, and sentences on where each comes from.

    `saved` is the config of the checkpoint whose weights are used; None where there is none.
    """
    beside, place, notes = ({}, "", []) if saved is not None else _beside(config.pretrained_dir)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, default in DEFAULTS.items():
        flag, kept = getattr(config, name), None if saved is None else saved.get(name)
        if flag is not None:
            values[name], origins[name] = flag, f"--{name}"
        elif kept is not None:
            values[name], origins[name] = kept, "the checkpoint"
        elif name in beside:
            values[name], origins[name] = beside[name], place
        else:
            values[name], origins[name] = default, "the default"
    google = saved is None and evaluating and _is_google(config.pretrained_dir)
    plain = config.eval_resize == "squash" and values["interpolation"] == "bilinear"
    if google and plain and config.resize is None:
        values["resize"], origins["resize"] = "reference", "the default for the evaluation of Google's .npz"
    settled = dataclasses.replace(config, **values)
    return settled, [_sentence(settled, origins), *notes, *_doubts(config, origins, saved)]


def _sentence(config: Config, origins: Mapping[str, str]) -> str:
    scaling = config.scaling
    how = "antialiased" if config.resize == "antialias" else "not antialiased, as tf.image.resize"
    return (
        f"preprocessing: mean {written(scaling.mean)} ({origins['mean']}), std {written(scaling.std)} "
        f"({origins['std']}); resized {config.interpolation} ({origins['interpolation']}), {how} ({origins['resize']})"
    )


def _doubts(config: Config, origins: Mapping[str, str], saved: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what to check where a file of a PyTorch port says nothing of its normalisation."""
    path = config.pretrained_dir
    if (
        saved is None
        and path is not None
        and not _is_google(path)
        and "the default" in (origins["mean"], origins["std"])
    ):
        yield (
            f"preprocessing: nothing beside {path} says what its images were normalised with; DeiT, DINO, MAE and most "
            "timm files need --mean imagenet --std imagenet"
        )


def _is_google(path: str | None) -> bool:
    """Return whether the weights are an .npz; a folder stands for <model_type>.npz in it."""
    if path is None:
        return False
    return Path(path).suffix == ".npz" or (Path(path).is_dir() and any(Path(path).glob("*.npz")))


def _beside(path: str | None) -> tuple[Found, str, list[str]]:
    """Return what the first config file in the weights' folder says, its path, and what could not be used of it."""
    if path is None or _is_google(path):
        return {}, "", []
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    for file in (folder / name for name in FILES):
        content = _read(file)
        found = {} if content is None else dict(_settings(content))
        if found:
            return found, str(file), list(_crop_advice(content or {}, file))
    unreadable = [str(folder / name) for name in FILES if (folder / name).exists() and _read(folder / name) is None]
    return {}, "", [f"preprocessing: {name} cannot be read as JSON and is not used" for name in unreadable]


def _read(file: Path) -> Mapping[str, Any] | None:
    """Return the JSON object in the file; None where there is none."""
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    inner = content.get("pretrained_cfg") if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else content if isinstance(content, dict) else None


def _settings(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Our flags' values out of timm's keys (mean, std, interpolation) or Hugging Face's (image_mean, ..., resample)."""
    if content.get("do_normalize") is False:
        yield from (("mean", "0,0,0"), ("std", "1,1,1"))
    else:
        for name, pattern in (("mean", MEAN), ("std", STD)):
            values = content.get(f"image_{name}", content.get(name))
            if isinstance(values, list) and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in values):
                text = ",".join(f"{value:.9f}".rstrip("0").rstrip(".") for value in values)
                if pattern.fullmatch(text):
                    yield name, text
    resample = content.get("resample")
    kind = RESAMPLE.get(resample) if isinstance(resample, int) else content.get("interpolation")
    if kind in FILTERS:
        yield "interpolation", str(kind)


def _crop_advice(content: Mapping[str, Any], file: Path) -> Iterator[str]:
    share = content.get("crop_pct")
    if isinstance(share, float) and 0 < share < 1:
        yield f"preprocessing: {file} was evaluated with --eval_resize crop --crop_pct {share:g}"
