# SPDX-License-Identifier: Apache-2.0
"""What is exported: the weights of a run or a checkpoint of this trainer, and what is known of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vit.config import Config
from vit.errors import ConfigError
from vit.model.transformer import VisionTransformer, create_model
from vit.run.metrics import read_lines
from vit.run.own import Own
from vit.weights.file_kinds import PUBLISHED_NAMES
from vit.weights.load import load_own

SAVED = ("dataset", "eval_resize", "crop_pct")
"""Settings that no checkpoint's identity has, from the flags of the run."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A verified checkpoint, the settings that it was trained with, and what its run found."""

    config: Config
    own: Own
    state: Mapping[str, Any]
    """Of state.json."""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.state.get("config", {}).get("name") or self.own.path.parent.parent.name)

    @property
    def class_names(self) -> list[str]:
        """Class i is output i."""
        return self.own.class_names

    @property
    def npz_name(self) -> str:
        """Name of Google's file of the model."""
        return f"{PUBLISHED_NAMES.get(self.config.model_name, self.config.model_name)}.npz"

    @property
    def resized_otherwise(self) -> bool:
        """Whether images were resized as tf.image.resize does, which PyTorch's libraries do not."""
        return self.config.resize == "reference"

    @cached_property
    def model(self) -> VisionTransformer:
        """The model with the weights, for evaluation. Raises WeightsError."""
        config = self.config
        model = create_model(
            config.model_name, config.image_size, len(self.class_names), dropout=0.0, gelu=config.gelu_form
        )
        load_own(model, self.own.file, self.class_names, self.class_names)
        return model.eval()

    def run_facts(self) -> dict[str, Any]:
        """Return the numbers of the run's config.json; nothing where the checkpoint lies alone."""
        try:
            found = json.loads((self._run / "config.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def evaluation(self) -> dict[str, Any]:
        """Return the metrics of the evaluation of these very weights; nothing where they were not evaluated."""
        step, best = self.state["step"], self.state.get("best") or {}
        try:
            rows = [row for _, row in read_lines((self._run / "metrics.jsonl").read_bytes())]
        except OSError:
            rows = []
        rows = [row for row in rows if row["step"] == step and row.get("top1_percent") is not None]
        return rows[-1] if rows else dict(best) if best.get("step") == step else {}

    @property
    def _run(self) -> Path:
        return self.own.path.parent.parent


def open_trained(place: str) -> Trained:
    """Return the checkpoint that a run's folder (its best one) or a checkpoint's folder means. Raises TrainError."""
    from vit.training.evaluator import settle_weights

    config, own, _ = settle_weights(Config(pretrained_dir=place))
    if own is None:
        what = "is not a run or a checkpoint of this trainer" if Path(place).exists() else "does not exist"
        raise ConfigError(place, what, "give output/NAME or output/NAME/checkpoints/step_NUMBER")
    state = json.loads((own.path / "state.json").read_text(encoding="utf-8"))
    saved = {name: value for name in SAVED if (value := state.get("config", {}).get(name)) is not None}
    return Trained(config=dataclasses.replace(config, **saved), own=own, state=state)
