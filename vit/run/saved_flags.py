# SPDX-License-Identifier: Apache-2.0
"""The flags that a run's config.json gives to an evaluation of its weights. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit.config import Config

SAVED = ("dataset", "data_path", "eval_resize", "crop_pct", "autocast", "seed", "synthetic_images", "synthetic_classes")
"""Its data and how it evaluates; model_type, img_size, gelu and the preprocessing come from the checkpoint."""
MOST_BYTES = 2**20  # of a config.json


def saved_flags(argv: Sequence[str], *more: str) -> list[str]:
    """Flags to put before `argv`, so that those given win; none unless --pretrained_dir is of a run of this trainer.

    `more` names flags beside SAVED.
    """
    place = _given(argv)
    config = None if place is None else _run_config(Path(place))
    found = {} if config is None else {name: config[name] for name in (*SAVED, *more) if config.get(name) is not None}
    return [_flag(name, value) for name, value in found.items()]


def evaluated_run(config: Config) -> Path | None:
    """Return the folder of a run if --pretrained_dir is that, and the images are the run's own."""
    place = Path(config.pretrained_dir or "/dev/null")
    saved = _run_config(place) if (place / "checkpoints").is_dir() else None
    same = saved is not None and all(saved.get(name) == getattr(config, name) for name in ("dataset", "data_path"))
    return place if same else None


def _given(argv: Sequence[str]) -> str | None:
    """Return the value of --pretrained_dir, the last one where there are several."""
    pairs = zip(argv, [*argv[1:], None], strict=True)
    values = [word.partition("=")[2] or after for word, after in pairs if word.partition("=")[0] == "--pretrained_dir"]
    return values[-1] if values else None


def _run_config(place: Path) -> dict[str, Any] | None:
    """config.json of the run: `place` is its folder, a checkpoint in it, or a file of one."""
    for folder in (place, *place.parents[:3]):
        if not (folder / "checkpoints").is_dir():
            continue
        try:
            with (folder / "config.json").open("rb") as file:
                content = json.loads(file.read(MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None
    return None


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"
