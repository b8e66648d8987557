"""Weights files read into a model, whoever wrote them, and written in Google's layout."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vit.classes import match_names, quoted
from vit.errors import WeightsError
from vit.model import VisionTransformer
from vit.npz import POS_EMBED, Array, Arrays, count_layers, read_arrays, to_npz, to_state
from vit.state_dicts import is_safetensors, read_state
from vit.variants import VARIANTS, Size, Variant

NPZ_HEAD = ("head/kernel", "head/bias")
STATE_HEAD = ("head.weight", "head.bias")
Shapes = dict[str, tuple[int, ...]]

PUBLISHED_NAMES = {"R50-ViT-B_16": "R50+ViT-B_16"}
"""Files in Google's bucket that are not named as their model_type."""


def save_npz(model: VisionTransformer, path: str | Path) -> None:
    """Write the model in Google's published layout."""
    arrays = to_npz(model.state_dict(), model.num_heads, group_norm_axes=model.group_norm_axes)
    plain: dict[str, Array] = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    with Path(path).open("wb") as file:  # given a name, numpy would add .npz to it
        np.savez(file, **plain)  # type: ignore[arg-type]  # numpy's stub sees allow_pickle in the keywords


def load_weights(model: VisionTransformer, path: str | Path, model_type: str = "") -> list[str]:
    """Fill the model from any file that load_npz or load_state reads; a folder stands for <model_type>.npz in it.

    Returns what was adapted, one sentence each. Raises WeightsError.
    """
    file = Path(path)
    if file.is_dir():
        file = file / f"{PUBLISHED_NAMES.get(model_type, model_type)}.npz"
    _refuse_other_things(file)
    return load_state(model, file) if is_state_dict(file) else load_npz(model, file)


def load_npz(model: VisionTransformer, path: str | Path) -> list[str]:
    """Fill the model from Google's .npz; returns what was adapted, one sentence each. Raises WeightsError."""
    _refuse_other_things(Path(path))
    arrays = read_arrays(Path(path))
    gammas = [array.ndim for key, array in arrays.items() if key == "gn_root/scale"]
    model.group_norm_axes = gammas[0] if gammas else model.group_norm_axes
    names = model.state_dict()
    wanted = {
        key: array.shape for key, array in to_npz(names, model.num_heads, group_norm_axes=model.group_norm_axes).items()
    }
    compare(arrays, _loosened(wanted, arrays, NPZ_HEAD, POS_EMBED), str(path), _advice_npz(arrays))
    return _fill(model, to_state(arrays, names))


def load_state(model: VisionTransformer, path: str | Path) -> list[str]:
    """Fill the model from timm's or Hugging Face's state dict; returns what was adapted. Raises WeightsError."""
    arrays, whose = read_state(Path(path))
    wanted: Shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    compare(arrays, _loosened(wanted, arrays, STATE_HEAD, "pos_embed"), str(path), _advice_state(arrays))
    port = [f"the file is {whose}'s: such weights mostly were trained with --gelu erf"] if model.gelu == "tanh" else []
    return [*_fill(model, arrays), *port]


def load_own(
    model: VisionTransformer, path: Path, file_classes: Sequence[str], data_classes: Sequence[str]
) -> list[str]:
    """Fill the model from a checkpoint of this trainer; the head's rows go by class name. Raises WeightsError."""
    arrays, _whose = read_state(path)
    notes = _place_head(arrays, file_classes, data_classes)
    wanted: Shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    compare(arrays, _loosened(wanted, arrays, STATE_HEAD, "pos_embed"), str(path), _advice_state(arrays))
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


def is_state_dict(path: Path) -> bool:
    """Whether the file is torch.save's or a .safetensors, and no .npz. Raises WeightsError for a damaged archive."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(2)
        return is_safetensors(path) or start == b"\x80\x02"  # a pickle of torch's old format
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _refuse_other_things(path: Path) -> None:
    """Raise WeightsError for a missing file, a folder and a web page."""
    try:
        with path.open("rb") as file:
            start = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except FileNotFoundError:
        raise WeightsError(str(path), "there is no such file", "give --pretrained_dir the path of the .npz") from None
    except OSError as error:
        what = f"cannot be read as an .npz ({error.strerror})"
        raise WeightsError(str(path), what, "give --pretrained_dir the path of a readable file") from error
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        raise WeightsError(str(path), "is a web page, not an .npz", "the download was answered by HTML: get it again")


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
    """The shapes that the file may have: a head of any class count or none, positions of any square grid."""
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
            raise WeightsError(path, f'key "{key}" holds {arrays[key].dtype}, not floating-point numbers', fix)
    left = sorted(arrays.keys() - wanted.keys())
    if left:
        what = f'key "{left[0]}" with shape {arrays[left[0]].shape} has no place in the model ({len(left)} such keys)'
        raise WeightsError(path, what, fix)


def _advice_npz(arrays: Arrays) -> str:
    kernel = arrays.get("embedding/kernel")
    if kernel is None or kernel.ndim != 4:
        return "give an .npz in Google's published layout"
    if "cls" not in arrays:
        return "the file has no class token (it averages over tokens): give one with classifier=token"
    resnet = tuple(_count_units(arrays, block) for block in (1, 2, 3, 4) if _count_units(arrays, block))
    return _advice(kernel.shape[3], count_layers(arrays), kernel.shape[0], resnet)


def _count_units(arrays: Arrays, block: int) -> int:
    return len({key.split("/")[1] for key in arrays if key.startswith(f"block{block}/")})


def _advice_state(arrays: Arrays) -> str:
    kernel = arrays.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim != 4:
        return "give a state dict with timm's or Hugging Face's keys of a Vision Transformer"
    num_layers = len({key.split(".")[1] for key in arrays if key.startswith("blocks.")})
    resnet = VARIANTS["R50-ViT-B_16"].resnet if any("backbone.stages.2" in key for key in arrays) else ()
    return _advice(kernel.shape[0], num_layers, kernel.shape[2], resnet)


def _advice(width: int, num_layers: int, patch: int, resnet: Iterable[int]) -> str:
    """The variant that the file looks like, as a fix."""
    for name, variant in VARIANTS.items():
        if (width, num_layers, patch, tuple(resnet)) == _looks(variant):
            return f"the file looks like {name}: set --model_type {name} or give another file"
    return f"the file has width {width}, {num_layers} layers, patch {patch}: no --model_type fits, give another"


def _looks(variant: Variant) -> tuple[int, int, int, tuple[int, ...]]:
    """Width, layers, side of the embedding's kernel and ResNet units."""
    return variant.width, variant.num_layers, 1 if variant.resnet else variant.patch, variant.resnet
