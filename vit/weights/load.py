# SPDX-License-Identifier: Apache-2.0
"""Weights files read into a model, whoever wrote them, and written in Google's layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vit.class_names import match_names, quoted
from vit.errors import WeightsError
from vit.model.transformer import VisionTransformer
from vit.variants import VARIANTS, Size, Variant
from vit.weights.file_kinds import file_of, kind_of
from vit.weights.npz import POS_EMBED, Array, Arrays, count_layers, read_arrays, to_npz, to_state
from vit.weights.ports import plain
from vit.weights.state_dict import read_state

NPZ_HEAD = ("head/kernel", "head/bias")
STATE_HEAD = ("head.weight", "head.bias")
Shapes = dict[str, tuple[int, ...]]


def save_npz(model: VisionTransformer, path: str | Path) -> None:
    """Write the model in Google's published layout."""
    arrays = to_npz(model.state_dict(), model.num_heads, group_norm_axes=model.group_norm_axes)
    plain: dict[str, Array] = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    with Path(path).open("wb") as file:  # given a name, numpy would add .npz to it
        np.savez(file, **plain)  # type: ignore[arg-type]  # numpy's stub sees allow_pickle in the keywords


def load_weights(model: VisionTransformer, place: str | Path, model_type: str = "") -> list[str]:
    """Fill the model from any file that load_npz or load_state reads, or from a folder with such a file.

    Returns what was adapted, one sentence each. Raises WeightsError.
    """
    path = file_of(place, model_type)
    return load_npz(model, path) if kind_of(path) == "npz" else load_state(model, path)


def load_npz(model: VisionTransformer, path: str | Path) -> list[str]:
    """Fill the model from Google's .npz; returns what was adapted, one sentence each. Raises WeightsError."""
    if kind_of(Path(path)) != "npz":
        raise WeightsError(str(path), "is a state dict, not an .npz", "give Google's .npz")
    arrays = read_arrays(Path(path))
    gammas = [array.ndim for key, array in arrays.items() if key == "gn_root/scale"]
    model.group_norm_axes = gammas[0] if gammas else model.group_norm_axes
    names = model.state_dict()
    wanted = {
        key: array.shape for key, array in to_npz(names, model.num_heads, group_norm_axes=model.group_norm_axes).items()
    }
    compare(arrays, _loosened(wanted, arrays, NPZ_HEAD, POS_EMBED), str(path), _advice_npz(arrays, model))
    return _fill(model, to_state(arrays, names))


def load_state(model: VisionTransformer, path: str | Path) -> list[str]:
    """Fill the model from timm's or Hugging Face's state dict; returns what was adapted. Raises WeightsError."""
    arrays, whose, notes = read_state(Path(path), kind_of(Path(path)))
    arrays, changes = plain(arrays, str(path), num_positions=model.pos_embed.shape[1])
    wanted: Shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    compare(arrays, _loosened(wanted, arrays, STATE_HEAD, "pos_embed"), str(path), _advice_state(arrays, model))
    port = f"the file has {whose}'s keys and does not say its GELU: weights that a PyTorch port trained need --gelu erf"
    return [*_fill(model, arrays), *notes, *changes, *([port] if model.gelu == "tanh" else [])]


def load_own(
    model: VisionTransformer, path: Path, file_classes: Sequence[str], data_classes: Sequence[str]
) -> list[str]:
    """Fill the model from a checkpoint of this trainer; the head's rows go by class name. Raises WeightsError."""
    arrays, _whose, _notes = read_state(path, kind_of(path))
    notes = _place_head(arrays, file_classes, data_classes)
    wanted: Shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    compare(arrays, _loosened(wanted, arrays, STATE_HEAD, "pos_embed"), str(path), _advice_state(arrays, model))
    return [*notes, *_fill(model, arrays)]


def _place_head(arrays: Arrays, file_classes: Sequence[str], data_classes: Sequence[str]) -> list[str]:
    """Put the head's rows in the order of the data's classes, in place; unknown classes leave no head."""
    if list(file_classes) == list(data_classes):
        return []
    match = match_names(data_classes, file_classes)
    if match.unknown:
        for key in STATE_HEAD:
            del arrays[key]
        what = f"{len(match.unknown):,} of {len(data_classes):,} classes are new: {quoted(match.unknown)}"
        return [f"the checkpoint's head is not used: {what}"]
    rows = [match.numbers[name] for name in data_classes]
    for key in STATE_HEAD:
        arrays[key] = arrays[key][rows]
    return [f"the head has the checkpoint's rows of these {len(rows):,} classes, matched by name"]


def _fill(model: VisionTransformer, state: Arrays) -> list[str]:
    notes = [*_adapt_head(state, model), *_adapt_positions(state, model.grid)]
    model.load_state_dict({key: torch.from_numpy(np.array(array, np.float32)) for key, array in state.items()})
    return notes


def _adapt_head(state: Arrays, model: VisionTransformer) -> list[str]:
    """Zero the head in place if its class count is another one (a head that is missing counts as 0 classes)."""
    found = len(state["head.bias"]) if "head.bias" in state else 0
    if found == model.num_classes:
        return []
    width = model.head.in_features
    state["head.weight"] = np.zeros((model.num_classes, width), np.float32)
    state["head.bias"] = np.zeros(model.num_classes, np.float32)
    return [f"the head starts at zero: the file's has {found} classes, the data {model.num_classes}"]


def _adapt_positions(state: Arrays, grid: Size) -> list[str]:
    """Resample the position embeddings in place to the model's grid, like scipy.ndimage.zoom of order 1."""
    found = state["pos_embed"]
    if found.shape[1] == 1 + grid[0] * grid[1]:
        return []
    old = math.isqrt(found.shape[1] - 1)
    maps = torch.from_numpy(found[:, 1:].astype(np.float32)).reshape(1, old, old, -1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=grid, mode="bilinear", align_corners=True)
    tokens = maps.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1).numpy()
    state["pos_embed"] = np.concatenate((found[:, :1], tokens), axis=1)
    return [f"position embeddings resampled from {old}x{old} to {grid[0]}x{grid[1]}"]


def _loosened(wanted: Shapes, arrays: Arrays, head: tuple[str, str], positions: str) -> Shapes:
    """Return the shapes that the file may have: a head of any class count or none, positions of any square grid."""
    kernel, bias = (arrays.get(key) for key in head)
    if kernel is None and bias is None:
        wanted = {key: shape for key, shape in wanted.items() if key not in head}
    elif kernel is not None and bias is not None and bias.ndim == 1:
        count = bias.shape[0]
        swapped = head == STATE_HEAD
        width = wanted[head[0]][1 if swapped else 0]
        wanted = {**wanted, head[0]: (count, width) if swapped else (width, count), head[1]: (count,)}
    found = arrays.get(positions)
    if found is not None and found.ndim == 3 and found.shape[1] > 1:
        count = found.shape[1]
        if math.isqrt(count - 1) ** 2 == count - 1:  # else compare names the shapes
            wanted = {**wanted, positions: (1, count, wanted[positions][2])}
    return wanted


def compare(arrays: Arrays, wanted: Mapping[str, tuple[int, ...]], path: str, fix: str) -> None:
    """Raise WeightsError for the first key that is missing, left over, of another shape or not of real numbers."""
    for key, shape in wanted.items():
        if key not in arrays:
            raise WeightsError(path, f'key "{key}" is missing, the model needs it with shape {shape}', fix)
        if arrays[key].shape != shape:
            raise WeightsError(path, f'key "{key}" has shape {arrays[key].shape}, the model needs {shape}', fix)
        if arrays[key].dtype.kind != "f":
            raise WeightsError(path, f'key "{key}" contains {arrays[key].dtype}, not floating-point numbers', fix)
    left = sorted(arrays.keys() - wanted.keys())
    if left:
        what = f'key "{left[0]}" with shape {arrays[left[0]].shape} has no place in the model ({len(left)} such keys)'
        raise WeightsError(path, what, fix)


def _advice_npz(arrays: Arrays, model: VisionTransformer) -> str:
    kernel = arrays.get("embedding/kernel")
    if kernel is None or kernel.ndim != 4:
        return "give an .npz in Google's published layout"
    if "cls" not in arrays:
        return "the file has no class token (it averages over tokens): give one with classifier=token"
    resnet = tuple(_count_units(arrays, block) for block in (1, 2, 3, 4) if _count_units(arrays, block))
    return _advice((kernel.shape[3], count_layers(arrays), kernel.shape[0], resnet), model)


def _count_units(arrays: Arrays, block: int) -> int:
    return len({key.split("/")[1] for key in arrays if key.startswith(f"block{block}/")})


def _advice_state(arrays: Arrays, model: VisionTransformer) -> str:
    kernel = arrays.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim != 4:
        return "give a state dict with timm's or Hugging Face's keys of a Vision Transformer"
    num_layers = len({key.split(".")[1] for key in arrays if key.startswith("blocks.")})
    resnet = VARIANTS["R50-ViT-B_16"].resnet if any("backbone.stages.2" in key for key in arrays) else ()
    return _advice((kernel.shape[0], num_layers, kernel.shape[2], resnet), model)


Looks = tuple[int, int, int, tuple[int, ...]]
"""Width, layers, side of the embedding's kernel and ResNet units."""


def _advice(looks: Looks, model: VisionTransformer) -> str:
    """Return what to do about a file that looks like this: its variant's name, unless the model is that already."""
    width, num_layers, patch, _ = looks
    if looks == _looks(model.variant):
        return "the file is damaged or was made by another program: give an unchanged file of this model"
    for name, variant in VARIANTS.items():
        if looks == _looks(variant):
            return f"the file looks like {name}: set --model_type {name} or give another file"
    return f"the file has width {width}, {num_layers} layers, patch {patch}: no --model_type fits, give another file"


def _looks(variant: Variant) -> Looks:
    return variant.width, variant.num_layers, 1 if variant.resnet else variant.patch, variant.resnet
