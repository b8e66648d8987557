# SPDX-License-Identifier: Apache-2.0
"""A folder that timm loads: `timm.create_model("local-dir:FOLDER", pretrained=True)`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vit.export.safetensors import write_safetensors
from vit.export.trained import Trained

ARCHITECTURES = {
    "ViT-Ti_16": "vit_tiny_patch16_224",
    "ViT-S_16": "vit_small_patch16_224",
    "ViT-B_16": "vit_base_patch16_224",
    "ViT-B_32": "vit_base_patch32_224",
    "ViT-L_16": "vit_large_patch16_224",
    "ViT-L_32": "vit_large_patch32_224",
    "ViT-H_14": "vit_huge_patch14_224",
    "tiny": "vit_tiny_patch16_224",
}
"""timm's names; model_args has every size again, so that none of its defaults counts."""
ACTIVATIONS = {"tanh": "gelu_tanh", "erf": "gelu"}
HYBRID = (
    "has a ResNet whose GroupNorm adds 1e-6 to the variance, and timm's adds 1e-5: its logits would differ",
    "use --to onnx or --to npz",
)


def refusal(trained: Trained) -> tuple[str, str] | None:
    """Return why timm cannot compute the same function, and what to use instead."""
    return HYBRID if trained.config.variant.resnet else None


def write_timm(trained: Trained, folder: Path) -> list[str]:
    """Write config.json and model.safetensors; the state dict's keys are timm's already."""
    (folder / "config.json").write_text(json.dumps(timm_config(trained), indent=1) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", trained.model.state_dict())
    return []


def timm_config(trained: Trained) -> dict[str, Any]:
    """Return config.json as timm.models._hub reads it."""
    config, variant, classes = trained.config, trained.config.variant, len(trained.class_names)
    return {
        "architecture": ARCHITECTURES[config.model_name],
        "num_classes": classes,
        "num_features": variant.width,
        "global_pool": "token",
        "label_names": trained.class_names,
        "model_args": {
            "img_size": config.image_size,
            "patch_size": variant.patch,
            "embed_dim": variant.width,
            "depth": variant.num_layers,
            "num_heads": variant.num_heads,
            "mlp_ratio": variant.mlp_width / variant.width,
            "act_layer": ACTIVATIONS[config.gelu_form],
        },
        "pretrained_cfg": {**_input(trained), "num_classes": classes},
    }


def _input(trained: Trained) -> dict[str, Any]:
    """Return how images become the model's input."""
    config = trained.config
    crops = config.eval_resize == "crop"
    return {
        "custom_load": False,
        "input_size": [3, config.image_size, config.image_size],
        "fixed_input_size": True,
        "interpolation": config.interpolation,
        "crop_pct": config.crop_pct if crops else 1.0,
        "crop_mode": "center" if crops else "squash",
        "mean": list(config.scaling.mean),
        "std": list(config.scaling.std),
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
