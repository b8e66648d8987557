"""Google's .npz files: read into a model and written from it. Layout: facts of vit_jax/checkpoint.py.

An .npz holds float32, channels last, keys joined with "/"; D width, h heads, d = D / h.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vit.errors import WeightsError
from vit.model import VisionTransformer
from vit.variants import VARIANTS

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

POS_EMBED = "Transformer/posembed_input/pos_embedding"
ATTENTION = "MultiHeadDotProductAttention_1"


def save_npz(model: VisionTransformer, path: str | Path) -> None:
    """Write the model in Google's published layout."""
    arrays = to_npz(model.state_dict(), model.num_heads)
    plain: dict[str, Any] = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    with Path(path).open("wb") as file:  # given a name, numpy would add .npz to it
        np.savez(file, **plain)


def load_npz(model: VisionTransformer, path: str | Path) -> list[str]:
    """Fill the model from the file; returns what was adapted, one sentence each. Raises WeightsError."""
    arrays = read_arrays(Path(path))
    wanted = {key: array.shape for key, array in to_npz(model.state_dict(), model.num_heads).items()}
    notes = [*_adapt_head(arrays, wanted), *_adapt_positions(arrays, model.grid)]
    _compare(arrays, wanted, str(path))
    state = {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in to_state(arrays).items()}
    model.load_state_dict(state)
    return notes


def read_arrays(path: Path) -> Arrays:
    """Every array of the file in the published layout; pre_logits (21k files only) dropped. Raises WeightsError."""
    try:
        _refuse_web_page(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key.removeprefix("opt/target/"): np.asarray(file[key]) for key in file.files}
    except FileNotFoundError:
        raise WeightsError(str(path), "there is no such file", "give --pretrained_dir the path of the .npz") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        # AttributeError: np.load gives a plain array, not an archive, for a .npy file
        reason = str(error).split(". ")[0]  # numpy goes on to recommend unpickling
        what = f"cannot be read as an .npz of plain numbers ({reason})"
        raise WeightsError(str(path), what, "it is cut off or no weights file: download it again") from error
    return {key: array for key, array in arrays.items() if not key.startswith("pre_logits/")}


def _refuse_web_page(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(str(path), "is a web page, not an .npz", "the download was answered by HTML: get it again")


def to_npz(state: Mapping[str, torch.Tensor], num_heads: int) -> Arrays:
    """A state dict (timm's keys) as arrays in Google's layout."""
    source = {key: tensor.detach().cpu().float().numpy() for key, tensor in state.items()}
    arrays: Arrays = {
        "cls": source["cls_token"],
        "embedding/kernel": source["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": source["patch_embed.proj.bias"],
        POS_EMBED: source["pos_embed"],
        **_from_pair("Transformer/encoder_norm", "scale", source, "norm"),
        **_from_pair("head", "kernel", source, "head"),
    }
    for index in range(_count(key.split(".")[1] for key in source if key.startswith("blocks."))):
        arrays |= _block_to_npz(source, f"blocks.{index}", f"Transformer/encoderblock_{index}", num_heads)
    return arrays


def _block_to_npz(source: Arrays, name: str, prefix: str, num_heads: int) -> Arrays:
    width = source[f"{name}.norm1.weight"].shape[0]
    split = (width, num_heads, width // num_heads)  # (D, h, d)
    arrays: Arrays = {
        f"{prefix}/{ATTENTION}/out/kernel": source[f"{name}.attn.proj.weight"].T.reshape(*split[1:], width),
        f"{prefix}/{ATTENTION}/out/bias": source[f"{name}.attn.proj.bias"],
        **_from_pair(f"{prefix}/LayerNorm_0", "scale", source, f"{name}.norm1"),
        **_from_pair(f"{prefix}/LayerNorm_2", "scale", source, f"{name}.norm2"),
        **_from_pair(f"{prefix}/MlpBlock_3/Dense_0", "kernel", source, f"{name}.mlp.fc1"),
        **_from_pair(f"{prefix}/MlpBlock_3/Dense_1", "kernel", source, f"{name}.mlp.fc2"),
    }
    kernels = np.split(source[f"{name}.attn.qkv.weight"], 3)
    biases = np.split(source[f"{name}.attn.qkv.bias"], 3)
    for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
        arrays[f"{prefix}/{ATTENTION}/{part}/kernel"] = kernel.T.reshape(split)
        arrays[f"{prefix}/{ATTENTION}/{part}/bias"] = bias.reshape(split[1:])
    return arrays


def _from_pair(prefix: str, first: str, source: Arrays, name: str) -> Arrays:
    return {f"{prefix}/{first}": source[f"{name}.weight"].T, f"{prefix}/bias": source[f"{name}.bias"]}


def to_state(arrays: Arrays) -> Arrays:
    """Arrays in Google's layout as timm's state dict; the inverse of to_npz."""
    state: Arrays = {
        "cls_token": arrays["cls"],
        "patch_embed.proj.weight": arrays["embedding/kernel"].transpose(3, 2, 0, 1),
        "patch_embed.proj.bias": arrays["embedding/bias"],
        "pos_embed": arrays[POS_EMBED],
        **_to_pair("norm", arrays, "Transformer/encoder_norm", "scale"),
        **_to_pair("head", arrays, "head", "kernel"),
    }
    for index in range(count_layers(arrays)):
        state |= _block_to_state(arrays, f"blocks.{index}", f"Transformer/encoderblock_{index}")
    return state


def _block_to_state(arrays: Arrays, name: str, prefix: str) -> Arrays:
    width = arrays[f"{prefix}/LayerNorm_0/scale"].shape[0]
    parts = ("query", "key", "value")
    kernels = [arrays[f"{prefix}/{ATTENTION}/{part}/kernel"].reshape(width, width).T for part in parts]
    biases = [arrays[f"{prefix}/{ATTENTION}/{part}/bias"].reshape(-1) for part in parts]
    return {
        f"{name}.attn.qkv.weight": np.concatenate(kernels),
        f"{name}.attn.qkv.bias": np.concatenate(biases),
        f"{name}.attn.proj.weight": arrays[f"{prefix}/{ATTENTION}/out/kernel"].reshape(width, width).T,
        f"{name}.attn.proj.bias": arrays[f"{prefix}/{ATTENTION}/out/bias"],
        **_to_pair(f"{name}.norm1", arrays, f"{prefix}/LayerNorm_0", "scale"),
        **_to_pair(f"{name}.norm2", arrays, f"{prefix}/LayerNorm_2", "scale"),
        **_to_pair(f"{name}.mlp.fc1", arrays, f"{prefix}/MlpBlock_3/Dense_0", "kernel"),
        **_to_pair(f"{name}.mlp.fc2", arrays, f"{prefix}/MlpBlock_3/Dense_1", "kernel"),
    }


def _to_pair(name: str, arrays: Arrays, prefix: str, first: str) -> Arrays:
    return {f"{name}.weight": arrays[f"{prefix}/{first}"].T, f"{name}.bias": arrays[f"{prefix}/bias"]}


def count_layers(arrays: Arrays) -> int:
    """Number of encoder blocks in the file."""
    prefix = "Transformer/encoderblock_"
    return _count(key.removeprefix(prefix).split("/")[0] for key in arrays if key.startswith(prefix))


def _count(indices: Iterable[str]) -> int:
    return len(set(indices))


def _adapt_head(arrays: Arrays, wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Zero the head in place if its class count is another one (a head that is missing counts as 0 classes)."""
    shape = wanted["head/kernel"]
    found = arrays["head/kernel"].shape[-1] if "head/kernel" in arrays else 0
    if found == shape[-1]:
        return []
    arrays["head/kernel"], arrays["head/bias"] = np.zeros(shape, np.float32), np.zeros(shape[-1:], np.float32)
    return [f"the head starts at zero: the file's has {found} classes, the data {shape[-1]}"]


def _adapt_positions(arrays: Arrays, grid: int) -> list[str]:
    """Resample the position embeddings in place to the model's grid, like scipy.ndimage.zoom of order 1."""
    found = arrays.get(POS_EMBED)
    if found is None or found.ndim != 3 or found.shape[1] == 1 + grid**2:
        return []
    old = math.isqrt(found.shape[1] - 1)
    if old**2 + 1 != found.shape[1]:
        return []  # no square grid: _compare names the shapes
    maps = torch.from_numpy(found[:, 1:].astype(np.float32)).reshape(1, old, old, -1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=(grid, grid), mode="bilinear", align_corners=True)
    tokens = maps.permute(0, 2, 3, 1).reshape(1, grid**2, -1).numpy()
    arrays[POS_EMBED] = np.concatenate((found[:, :1], tokens), axis=1)
    return [f"position embeddings resampled from {old}x{old} to {grid}x{grid}"]


def _compare(arrays: Arrays, wanted: Mapping[str, tuple[int, ...]], path: str) -> None:
    """Raise WeightsError for the first key that is missing, left over or of another shape."""
    fix = _advice(arrays)
    for key, shape in wanted.items():
        if key not in arrays:
            raise WeightsError(path, f'key "{key}" is missing, the model needs it with shape {shape}', fix)
        if arrays[key].shape != shape:
            raise WeightsError(path, f'key "{key}" has shape {arrays[key].shape}, the model needs {shape}', fix)
        if arrays[key].dtype.kind != "f":
            raise WeightsError(path, f'key "{key}" holds {arrays[key].dtype}, not floating-point numbers', fix)
    left = sorted(arrays.keys() - wanted.keys())
    if left:
        what = f'key "{left[0]}" with shape {arrays[left[0]].shape} has no place in the model ({len(left)} such keys)'
        raise WeightsError(path, what, fix)


def _advice(arrays: Arrays) -> str:
    """The variant that the file looks like, as a fix."""
    kernel = arrays.get("embedding/kernel")
    if kernel is None or kernel.ndim != 4:
        return "give an .npz in Google's published layout"
    found = (kernel.shape[3], count_layers(arrays), kernel.shape[0])
    for name, variant in VARIANTS.items():
        if found == (variant.width, variant.num_layers, variant.patch):
            return f"the file looks like {name}: set --model_type {name} or give another file"
    return f"the file has width {found[0]}, {found[1]} layers, patch {found[2]}: no --model_type fits, give another"
