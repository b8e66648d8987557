"""State dicts of the PyTorch ports: timm's and Hugging Face's files, .pt or .safetensors, under timm's keys."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vit.errors import WeightsError
from vit.npz import Arrays
from vit.packages import optional_package

WRAPPERS = ("state_dict", "model")  # keys under which training programs keep the weights
UNUSED = ("pre_logits.", "pooler.")  # of 21k files and of Hugging Face's base model; fine-tuning drops them
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
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
HF_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
HF_PARTS = ("query", "key", "value")
SAFETENSORS_HEADER = 8  # bytes that hold the length of its JSON


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as a .safetensors does: a length, then JSON."""
    with path.open("rb") as file:
        start = file.read(SAFETENSORS_HEADER + 1)
    return len(start) > SAFETENSORS_HEADER and start[4:SAFETENSORS_HEADER] == bytes(4) and start[-1:] == b"{"


def read_state(path: Path) -> tuple[Arrays, str]:
    """The file's arrays under timm's keys, and whose file it is: "timm" or "Hugging Face". Raises WeightsError."""
    state = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    named = {key.removeprefix("module.").removeprefix("vit."): tensor for key, tensor in state.items()}
    arrays = {key: tensor.detach().cpu().float().numpy() for key, tensor in named.items() if not key.startswith(UNUSED)}
    if HF_MARK in arrays:
        return from_hugging_face(arrays, str(path)), "Hugging Face"
    return arrays, "timm"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if optional_package("safetensors.torch", needs=("load_file",)) is None:
        what = "is a .safetensors file, and this Python has no safetensors that works"
        raise WeightsError(str(path), what, "pip install safetensors, or give the .npz or .pt file")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, torch.Tensor] = load_file(str(path))
        return found
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable(path, error) from error
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(str(path), "holds no state dict of tensors", "give a file of torch.save(model.state_dict())")
    return dict(found)


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or ["it ends too soon"])[0].split(". ")[0]
    what = f"cannot be read as a state dict of plain tensors ({reason})"
    return WeightsError(str(path), what, "it is cut off or no weights file: download it again")


def from_hugging_face(arrays: Arrays, path: str) -> Arrays:
    """Hugging Face's keys (without "vit.") as timm's; query, key and value become one matrix. Raises WeightsError."""
    state: Arrays = {}
    for key, array in arrays.items():
        module, _, end = key.rpartition(".")
        layer = HF_LAYER.fullmatch(module)
        if key in HF_NAMES:
            state[HF_NAMES[key]] = array
        elif layer is None:
            state[f"{HF_NAMES.get(module, module)}.{end}"] = array
        elif layer[2].rpartition(".")[2] not in HF_PARTS:
            state[f"blocks.{layer[1]}.{HF_NAMES.get(layer[2], layer[2])}.{end}"] = array
        elif layer[2].endswith(HF_PARTS[0]):
            keys = [f"{module.removesuffix(HF_PARTS[0])}{part}.{end}" for part in HF_PARTS]
            missing = [name for name in keys if name not in arrays]
            if missing:
                raise WeightsError(path, f'key "{missing[0]}" is missing beside "{key}"', "download the file again")
            state[f"blocks.{layer[1]}.attn.qkv.{end}"] = np.concatenate([arrays[name] for name in keys])
    return state
