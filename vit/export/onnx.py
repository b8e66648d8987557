# SPDX-License-Identifier: Apache-2.0
"""model.onnx: images (batch, 3, S, S), normalised -> logits (batch, classes), for any batch."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from vit.errors import ConfigError, WeightsError
from vit.export.trained import Trained
from vit.packages import optional_package

NEEDED = ("onnx", "onnxscript")
OLDEST_TORCH = (2, 6)  # its exporter takes dynamic_shapes
EXAMPLE, TRIED = 2, (1, 3)  # images; with an example of one, the exporter would take the batch for a constant
TOLERANCE = 1e-3  # of the largest logit; ONNX Runtime adds in another order: 7e-5 was seen for the hybrid
MOST_BYTES = 3 * 2**29  # of weights within the file, which protobuf limits to 2 GiB
FILE = "model.onnx"


def check_packages() -> None:
    """Raise ConfigError unless this Python can export."""
    missing = [name for name in NEEDED if optional_package(name) is None]
    if missing:
        what = f"this Python has no {' and no '.join(missing)} that works"
        raise ConfigError("--to onnx", what, f"pip install {' '.join(NEEDED)}")
    if tuple(int(word) for word in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        what = f"torch {torch.__version__} cannot export with a batch of any size"
        raise ConfigError("--to onnx", what, f"install torch {'.'.join(map(str, OLDEST_TORCH))} or newer")


def write_onnx(trained: Trained, folder: Path) -> list[str]:
    """Write model.onnx and preprocessing.json; compare the logits if ONNX Runtime is there, else return a note."""
    facts = preprocessing(trained)
    program = _exported(trained)
    program.model.metadata_props.update({key: _text(value) for key, value in facts.items()})
    num_bytes = sum(parameter.numel() * 4 for parameter in trained.model.parameters())
    program.save(str(folder / FILE), external_data=num_bytes > MOST_BYTES)
    (folder / "preprocessing.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return _compare(trained, folder / FILE)


def preprocessing(trained: Trained) -> dict[str, Any]:
    """Return what a program needs to make the model's input and to name its outputs."""
    config = trained.config
    return {
        "model_type": config.model_name,
        "img_size": config.image_size,
        "mean": list(config.scaling.mean),
        "std": list(config.scaling.std),
        "interpolation": config.interpolation,
        "eval_resize": config.eval_resize,
        "crop_pct": config.crop_pct if config.eval_resize == "crop" else None,
        "class_names": trained.class_names,
    }


def _text(value: Any) -> str:
    """Return a value of the file's metadata, which has only texts."""
    return value if isinstance(value, str) else json.dumps(value)


def _exported(trained: Trained) -> Any:
    """Return torch's ONNXProgram, made on the CPU."""
    example = _random_images(trained, EXAMPLE)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # on its own future, for programmers
            return torch.onnx.export(
                trained.model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _random_images(trained: Trained, count: int) -> torch.Tensor:
    side = trained.config.image_size
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count)) * 2 - 1


def _compare(trained: Trained, path: Path) -> list[str]:
    """Raise WeightsError if ONNX Runtime computes other logits; return a note where it is absent."""
    runtime = optional_package("onnxruntime", needs=("InferenceSession",))
    if runtime is None:
        return [f"{path.name} was not compared with the model: this Python has no onnxruntime"]
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in TRIED:
        images = _random_images(trained, count)
        with torch.no_grad():
            expected = trained.model(images)
        (found,) = session.run(None, {"images": images.numpy()})
        error = (torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
        if not error <= TOLERANCE:
            what = f"ONNX Runtime computes other logits: they differ by {float(error):.1e} of the largest"
            raise WeightsError(path.name, what, "export with other versions of torch, onnx and onnxruntime")
    return []
