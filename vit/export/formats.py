# SPDX-License-Identifier: Apache-2.0
"""The formats: what each refuses, and what writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vit.errors import ConfigError
from vit.export import hugging_face, onnx, timm
from vit.export.trained import Trained
from vit.scaling import INCEPTION, written
from vit.weights.load import save_npz

Refusal = tuple[str, str]
"""What is wrong, and what to do instead."""
ERF = ("computes GELU with erf, and Google's code, which reads such files, with tanh", "use --to timm, hf or onnx")


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One way out."""

    refusal: Callable[[Trained], Refusal | None]
    write: Callable[[Trained, Path], list[str]]
    """Write into an empty folder, and return what to say of the result. Raises TrainError."""

    def check(self, trained: Trained) -> None:
        """Raise ConfigError if the result could not compute what the model does."""
        found = self.refusal(trained)
        if found is not None:
            what, fix = found
            raise ConfigError(f"run {trained.name}", what, fix)


def _write_npz(trained: Trained, folder: Path) -> list[str]:
    save_npz(trained.model, folder / trained.npz_name)
    (folder / "classes.json").write_text(json.dumps(trained.class_names, indent=1) + "\n", encoding="utf-8")
    scaling = trained.config.scaling
    if scaling == INCEPTION:
        return []
    return [
        f"Google's code scales pixels to -1 to 1; this model needs mean {written(scaling.mean)} and "
        f"std {written(scaling.std)}"
    ]


def _refuse_npz(trained: Trained) -> Refusal | None:
    return ERF if trained.config.gelu_form == "erf" else None


def _refuse_onnx(_trained: Trained) -> Refusal | None:
    onnx.check_packages()
    return None


FORMATS = {
    "timm": Format(refusal=timm.refusal, write=timm.write_timm),
    "hf": Format(refusal=hugging_face.refusal, write=hugging_face.write_hugging_face),
    "onnx": Format(refusal=_refuse_onnx, write=onnx.write_onnx),
    "npz": Format(refusal=_refuse_npz, write=_write_npz),
}
"""By the word after --to."""
