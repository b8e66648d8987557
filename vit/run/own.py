# SPDX-License-Identifier: Apache-2.0
"""This trainer's own checkpoints, given as weights: what they were made with, and settings taken from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit.config import ClassChoice, Config
from vit.data.batches import Data
from vit.data.classes import renumbered
from vit.errors import ConfigError, StorageError
from vit.run.checkpoint import MANIFEST, Checkpoint, find_fault, list_checkpoints, pointed_at
from vit.variants import VARIANTS

SETTINGS = ("model_type", "gelu", "img_size")
"""What a checkpoint says of its model; a flag that is not given takes the checkpoint's value."""
FUNCTION = ("model_type", "gelu")
"""Those without which the weights are another function; the image size may change in fine-tuning."""
WEIGHTS = ("ema.pt", "model.pt")
"""The weights of a checkpoint; where the run averages them, the average is what it evaluates."""
ACTIVATIONS = {"gelu": "erf", "gelu_tanh": "tanh", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""Names in config.json: hidden_act of Hugging Face, act_layer of timm."""
MOST_BYTES = 2**20  # of a config.json


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """A whole checkpoint of this trainer."""

    path: Path
    file: Path
    settings: Mapping[str, Any]
    class_names: list[str]
    step: int


def find_own(place: str | Path | None) -> Own | None:
    """The checkpoint at a run's folder (its best one), a checkpoint's folder or a file in it; None for other things.

    Raises StorageError if it is damaged.
    """
    if place is None:
        return None
    path = Path(place)
    try:
        folder = _folder(path)
    except OSError:  # the reader of weights says what is wrong with the path
        return None
    if folder is None:
        return None
    fault = find_fault(folder)
    if fault is not None:
        raise StorageError(str(folder), f"is damaged ({fault})", "give another checkpoint of that run")
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    file = path if path.is_file() else next(folder / name for name in WEIGHTS if (folder / name).is_file())
    return _own(folder, file, state)


def own_of(checkpoint: Checkpoint | None) -> Own | None:
    """Return a run's last checkpoint, if there is one."""
    if checkpoint is None:
        return None
    return _own(checkpoint.path, checkpoint.path / "model.pt", checkpoint.state)


def _own(path: Path, file: Path, state: Mapping[str, Any]) -> Own:
    settings, names = state["identity"], state["class_names"]
    return Own(path=path, file=file, settings=settings, class_names=names, step=state["step"])


def _folder(path: Path) -> Path | None:
    """Return the checkpoint's folder that a path means, unverified."""
    if path.name in WEIGHTS and path.is_file():
        return path.parent if (path.parent / MANIFEST).is_file() else None
    if (path / "model.pt").is_file() and (path / MANIFEST).is_file():
        return path
    for name in ("best", "last"):
        if (path / name).is_file() and (path / "checkpoints").is_dir():
            return path / "checkpoints" / pointed_at(path / name)
    return next((folder for root in (path, path / "checkpoints") for folder in list_checkpoints(root)), None)


def with_classes_of(own: Own, data: Data, choice: ClassChoice) -> tuple[Data, list[str]]:
    """The validation images under the checkpoint's numbers of their classes, and sentences. Raises ConfigError."""
    source, notes = renumbered(data.val.source, own.class_names, choice, str(own.path))
    val = dataclasses.replace(data.val, source=source)
    return dataclasses.replace(data, val=val, class_names=own.class_names), notes


def complete(
    config: Config, own: Own | None, *, fixed: Sequence[str], names: Sequence[str] = SETTINGS
) -> tuple[Config, list[str]]:
    """Return the config with the settings `names` set: by flags, else the checkpoint, else defaults; and a sentence.

    Raises ConfigError if a flag named in `fixed` differs from the checkpoint.
    """
    taken = _beside(config) if own is None else _taken(config, own, fixed, names)
    if taken.get("model_type", "tiny") not in VARIANTS:
        what = f'the checkpoint\'s model "{taken["model_type"]}" is not known to this version'
        raise ConfigError("--pretrained_dir", what, "use the version of the trainer that wrote it")
    settled = dataclasses.replace(config, **taken)
    defaults: dict[str, Any] = {
        "model_type": settled.model_name,
        "gelu": settled.gelu_form,
        "img_size": settled.image_size,
    }
    whose = "config.json" if own is None else "the checkpoint"
    words = ", ".join(f"{name} {value}" for name, value in taken.items())
    return dataclasses.replace(settled, **defaults), [f"settings of {whose}: {words}"] if words else []


def _taken(config: Config, own: Own, fixed: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return the checkpoint's values of the settings that no flag gives."""
    theirs = {name: own.settings.get(name) for name in names}
    for name, value in theirs.items():
        flag = getattr(config, name)
        if name in fixed and None not in (flag, value) and flag != value:
            what = f"is {flag}, but {own.path} was trained with {value}"
            raise ConfigError(f"--{name}", what, f"set --{name} {value}, or leave it out")
    return {name: value for name, value in theirs.items() if value is not None and getattr(config, name) is None}


def _beside(config: Config) -> dict[str, Any]:
    """Return the form of GELU that Hugging Face's or timm's config.json beside a state dict says, if no flag does."""
    if config.gelu is not None or config.pretrained_dir is None or config.pretrained_dir.endswith(".npz"):
        return {}
    path = Path(config.pretrained_dir)
    try:
        with ((path if path.is_dir() else path.parent) / "config.json").open("rb") as file:
            content = json.loads(file.read(MOST_BYTES))
        if "hidden_act" in content:
            name = content["hidden_act"]
        else:
            name = (content.get("model_args") or {}).get("act_layer", "gelu") if "architecture" in content else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {"gelu": ACTIVATIONS[name]} if isinstance(name, str) and name in ACTIVATIONS else {}
