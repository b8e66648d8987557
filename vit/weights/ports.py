# SPDX-License-Identifier: Apache-2.0
"""State dicts of the PyTorch ports under timm's keys, and in this trainer's form where the function stays the same."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np

from vit.errors import WeightsError
from vit.weights.npz import Array, Arrays

T = TypeVar("T")

PREFIXES = ("_orig_mod.", "module.", "model.", "backbone.", "vit.", "deit.", "net.")
"""Of torch.compile, DataParallel, Lightning, detection code and Hugging Face."""
HEADS = ("head.", "classifier.", "fc.")
"""What may stand beside a prefix without having it."""
UNUSED = re.compile(r"(embeddings\.)?mask_token|decoder[._].*|pre_logits\..*|pooler\..*|n_averaged")
"""Of masked training, 21k files, Hugging Face's base model and torch's averages; fine-tuning drops them."""
TRAITS = (
    (r"(embeddings\.)?(reg_token|register_tokens)", "has register tokens (DINOv2 with registers)"),
    (r"(embeddings\.)?(dist_token|distillation_token)|head_dist\..*", "is a distilled DeiT, with a distillation token"),
    (r".*(relative_position|rel_pos_bias).*", "has relative position biases (BEiT, Swin)"),
    (r".*\.[qk]_norm\..*", "normalises queries and keys"),
    (r"norm_pre\..*|pre_layrnorm\..*|ln_pre\..*", "has a norm before its blocks (CLIP)"),
    (r"fc_norm\..*", "classifies by the mean of its tokens (fc_norm)"),
    (r"attn_pool\..*", "pools its tokens by attention (SigLIP)"),
    (r".*\.mlp\.(w12|w1|fc1_g|weights_in)\..*", "has SwiGLU layers"),
    (r".*(rope|rotary).*", "has rotary positions"),
    (r".*\.lora_[AB]\..*", "has LoRA adapters that are not merged into the weights"),
)
"""Keys of models that compute something else, and what they are."""
PLAIN = "give weights of a plain ViT with a class token, such as timm's vit_base_patch16_224"

HF_MARK = "embeddings.patch_embeddings.projection.weight"
HF_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
    "classifier": "head",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""Of transformers up to 4 and from 5 on, which names attention and MLP otherwise."""
HF_LAYER = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)")
HF_PARTS = {
    **{f"attention.attention.{name}": place for place, name in enumerate(("query", "key", "value"))},
    **{f"attention.{name}_proj": place for place, name in enumerate("qkv")},
}
SCALES = re.compile(r"blocks\.(\d+)\.(?:ls([12])\.gamma|gamma_([12])|layer_scale([12])\.lambda1)")
SCALED = {"1": "attn.proj", "2": "mlp.fc2"}


def without_prefixes(state: Mapping[str, T]) -> dict[str, T]:
    """Return the same without prefixes that all keys have, but for a head's."""
    found = {key: value for key, value in state.items() if key != "n_averaged"}
    while (shorter := _shorter(found)) is not None:
        found = shorter
    return found


def _shorter(state: dict[str, T]) -> dict[str, T] | None:
    for prefix in PREFIXES:
        others = [key for key in state if not key.startswith(prefix)]
        if len(others) < len(state) and all(key.startswith(HEADS) for key in others):
            found = {key.removeprefix(prefix): value for key, value in state.items()}
            return found if len(found) == len(state) else None
    return None


def from_hugging_face(arrays: Arrays, path: str) -> Arrays:
    """Hugging Face's keys (without "vit.") as timm's; query, key and value become one matrix. Raises WeightsError."""
    state: Arrays = {}
    parts: dict[str, dict[int, Array]] = {}
    for key, array in arrays.items():
        module, _, end = key.rpartition(".")
        layer = HF_LAYER.fullmatch(module)
        if key in HF_NAMES:
            state[HF_NAMES[key]] = array
        elif layer is None:
            state[f"{HF_NAMES.get(module, module)}.{end}"] = array
        elif layer[2] in HF_PARTS:
            parts.setdefault(f"blocks.{layer[1]}.attn.qkv.{end}", {})[HF_PARTS[layer[2]]] = array
        else:
            state[f"blocks.{layer[1]}.{HF_NAMES.get(layer[2], layer[2])}.{end}"] = array
    for key, found in parts.items():
        if len(found) != 3 or len({array.shape[1:] for array in found.values()}) != 1:
            what = f"has not all of query, key and value for {key}"
            raise WeightsError(path, what, "it is not complete: download it again")
        state[key] = np.concatenate([found[place] for place in range(3)])
    return state


def plain(arrays: Arrays, path: str, *, num_positions: int) -> tuple[Arrays, list[str]]:
    """Return the weights (timm's keys) in this trainer's form, and what was changed. Raises WeightsError."""
    arrays = {key: array for key, array in arrays.items() if not UNUSED.fullmatch(key)}
    for pattern, what in TRAITS:
        if any(re.fullmatch(pattern, key) for key in arrays):
            raise WeightsError(path, what, PLAIN)
    if not any(key.startswith("blocks.") for key in arrays):
        shown = ", ".join(sorted(arrays)[:3]) or "none"
        raise WeightsError(path, f"is not a Vision Transformer: its keys are {shown} ({len(arrays)})", PLAIN)
    if "cls_token" not in arrays:
        raise WeightsError(path, "has no class token: it classifies by the mean of its tokens or by pooling", PLAIN)
    notes = [*_fold_scales(arrays), *_complete_bias(arrays), *_complete_positions(arrays, num_positions)]
    return arrays, notes


def _fold_scales(arrays: Arrays) -> Iterator[str]:
    """Multiply the layer scales into the layers before them, in place: the function is the same."""
    scales = {key: found for key in arrays if (found := SCALES.fullmatch(key))}
    for key, found in scales.items():
        place = next(part for part in found.groups()[1:] if part)
        layer, gamma = f"blocks.{found[1]}.{SCALED[place]}", arrays.pop(key)
        for end in ("weight", "bias"):
            array = arrays.get(f"{layer}.{end}")
            if array is not None and array.shape[:1] == gamma.shape:
                arrays[f"{layer}.{end}"] = array * gamma.reshape(-1, *(1,) * (array.ndim - 1))
    if scales:
        yield "the file's layer scales are multiplied into its weights; the function is the same"


def _complete_bias(arrays: Arrays) -> Iterator[str]:
    """Give query, key and value the bias that the file leaves out, in place."""
    missing = [key for key in arrays if key.endswith(".attn.qkv.weight") and f"{key[:-6]}bias" not in arrays]
    weights = sum(key.endswith(".attn.qkv.weight") for key in arrays)
    if not missing or len(missing) != weights:  # one of many that is missing is damage
        return
    for key in missing:
        module = key.removesuffix("qkv.weight")
        query, value = arrays.pop(f"{module}q_bias", None), arrays.pop(f"{module}v_bias", None)
        bias = np.zeros(len(arrays[key]), np.float32)
        if query is not None and value is not None and 3 * len(query) == 3 * len(value) == len(bias):
            bias[: len(query)], bias[2 * len(query) :] = query, value
        arrays[f"{module}qkv.bias"] = bias
    yield "the file has no bias of query, key and value (or a part of it): what is absent starts at zero"


def _complete_positions(arrays: Arrays, num_positions: int) -> Iterator[str]:
    """Give the class token a position of zero where the file has none, in place."""
    found = arrays.get("pos_embed")
    if found is None or found.ndim != 3 or found.shape[1] == num_positions or found.shape[1] < 2:
        return
    if math.isqrt(found.shape[1]) ** 2 == found.shape[1]:
        arrays["pos_embed"] = np.concatenate((np.zeros_like(found[:, :1]), found), axis=1)
        yield "the file's class token has no position: it has zero here"
