# SPDX-License-Identifier: Apache-2.0
"""A folder that transformers loads: `ViTForImageClassification.from_pretrained("FOLDER")`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vit.export.safetensors import write_safetensors
from vit.export.trained import Trained
from vit.images.preprocessing import RESAMPLE
from vit.model.transformer import LAYER_NORM_EPS

ACTIVATIONS = {"tanh": "gelu_pytorch_tanh", "erf": "gelu"}
MODULES = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "head": "classifier",
}
LAYER_MODULES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
"""The names up to transformers 4, which 5 reads too."""
HYBRID = (
    "is a hybrid, and transformers 5 has no hybrid Vision Transformer",
    "use --to onnx or --to npz",
)


def refusal(trained: Trained) -> tuple[str, str] | None:
    """Return why transformers cannot compute the same function, and what to use instead."""
    return HYBRID if trained.config.variant.resnet else None


def write_hugging_face(trained: Trained, folder: Path) -> list[str]:
    """Write config.json, preprocessor_config.json and model.safetensors."""
    for name, content in (("config.json", model_config(trained)), ("preprocessor_config.json", _processor(trained))):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", renamed(trained.model.state_dict()))
    return []


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's keys as Hugging Face's; query, key and value are separate matrices there."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        module, _, end = key.rpartition(".")
        if key in MODULES:
            found[MODULES[key]] = tensor
        elif module in MODULES:
            found[f"{MODULES[module]}.{end}"] = tensor
        else:
            _, number, part = module.split(".", 2)
            layer = f"vit.encoder.layer.{number}"
            if part == "attn.qkv":
                for name, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    found[f"{layer}.attention.attention.{name}.{end}"] = piece
            else:
                found[f"{layer}.{LAYER_MODULES[part]}.{end}"] = tensor
    return found


def model_config(trained: Trained) -> dict[str, Any]:
    """Return config.json of a ViTForImageClassification."""
    config, variant = trained.config, trained.config.variant
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": variant.width,
        "num_hidden_layers": variant.num_layers,
        "num_attention_heads": variant.num_heads,
        "intermediate_size": variant.mlp_width,
        "hidden_act": ACTIVATIONS[config.gelu_form],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": LAYER_NORM_EPS,  # its default is 1e-12
        "image_size": config.image_size,
        "patch_size": variant.patch,
        "num_channels": 3,
        "qkv_bias": True,
        "id2label": {str(number): name for number, name in enumerate(trained.class_names)},
        "label2id": {name: number for number, name in enumerate(trained.class_names)},
    }


def _processor(trained: Trained) -> dict[str, Any]:
    """Return preprocessor_config.json: squashed images by ViT's own class, cropped ones by CLIP's."""
    config, side = trained.config, {"height": trained.config.image_size, "width": trained.config.image_size}
    crops = config.eval_resize == "crop"
    how: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": side}
    if crops:
        short = {"shortest_edge": math.floor(config.image_size / config.crop_pct)}
        how |= {"image_processor_type": "CLIPImageProcessor", "size": short, "do_center_crop": True, "crop_size": side}
    return {
        **how,
        "resample": next(number for number, name in RESAMPLE.items() if name == config.interpolation),
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.scaling.mean),
        "image_std": list(config.scaling.std),
    }
