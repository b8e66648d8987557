# SPDX-License-Identifier: Apache-2.0
"""Google's .npz files: every layout in use brought to the published one, and that one to and from timm's state dict.

An .npz has float32, channels last, keys joined with "/"; D width, h heads, d = D / h. Source: vit_jax/checkpoint.py
and vit_jax/models_vit.py; big_vision/models/vit.py for the other layouts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vit.errors import WeightsError

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

POS_EMBED = "Transformer/posembed_input/pos_embedding"
BIG_VISION_POS_EMBED = "pos_embedding"
ATTENTION = "MultiHeadDotProductAttention_1"
LINEN_NAMES = {  # today's flax, and so big_vision, counts a block's parts by kind; the published files do in order
    "MultiHeadDotProductAttention_0": ATTENTION,
    "LayerNorm_1": "LayerNorm_2",
    "MlpBlock_0": "MlpBlock_3",
}
MOST_RATIO, LEAST_BOMB = 20, 2**30  # a file that is smaller when unpacked than this is let through
PREFIXES = ("opt/target/", "params/")
STACKED = "Transformer/encoderblock/"
RESNET_UNIT = re.compile(r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.(.+)\.weight")


def read_arrays(path: Path) -> Arrays:
    """Every array of the file in the published layout; pre_logits (21k files only) dropped. Raises WeightsError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            _check_sizes(file, path)
            prefix = next((name for name in PREFIXES if any(key.startswith(name) for key in file.files)), "")
            wanted = [key for key in file.files if key.startswith(prefix)]  # beside it stands an optimizer's state
            arrays = {key.removeprefix(prefix): _widened(np.asarray(file[key])) for key in wanted}
    except Exception as error:  # numpy raises nearly anything on a damaged file
        if isinstance(error, MemoryError) and path.stat().st_size > LEAST_BOMB:
            raise  # large weights on a small machine; a small file that asks for so much is damaged
        if "allow_pickle" in str(error):  # numpy's word for arrays of objects, which it does not load
            what = "contains Python objects, which are not executed, and not only plain numbers"
            raise WeightsError(str(path), what, "save it again with plain arrays in numpy.savez") from error
        what = f"is not accepted: {error}" if isinstance(error, Bomb) else "is an .npz that is cut off or damaged"
        raise WeightsError(str(path), what, "download it again") from error
    return published({key: array for key, array in arrays.items() if not key.startswith("pre_logits/")})


class Bomb(ValueError):
    """A file that would unpack to far more than its size."""


def _check_sizes(file: Any, path: Path) -> None:
    """Raise Bomb for a file that would unpack to far more than weights can: they hardly shrink when packed."""
    num_bytes = sum(entry.file_size for entry in file.zip.infolist())
    most = max(LEAST_BOMB, MOST_RATIO * path.stat().st_size)
    if num_bytes > most:
        raise Bomb(f"it would unpack to {num_bytes >> 20:,} MiB, {MOST_RATIO} times its size and more")


def _widened(array: Array) -> Array:
    """bfloat16, which numpy reads as two bytes without meaning, as float32; other arrays as they are."""
    if array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.dtype.fields is None:
        return (np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def published(arrays: Arrays) -> Arrays:
    """The same weights in the published layout: other names, a stack of blocks and bare positions are brought to it."""
    arrays = {_reference_name(key): array for key, array in _unstacked(arrays)}
    if BIG_VISION_POS_EMBED in arrays and "cls" in arrays:
        positions = arrays.pop(BIG_VISION_POS_EMBED)
        none = np.zeros((1, 1, *positions.shape[2:]), positions.dtype)
        arrays[POS_EMBED] = np.concatenate((none, positions), axis=1)  # there the class token joins after positions
    return arrays


def _unstacked(arrays: Arrays) -> Iterable[tuple[str, Array]]:
    for key, array in arrays.items():
        if not key.startswith(STACKED):
            yield key, array
            continue
        for index, part in enumerate(array):
            yield f"Transformer/encoderblock_{index}/{key.removeprefix(STACKED)}", part


def _reference_name(key: str) -> str:
    parts = key.split("/")
    if len(parts) > 2 and parts[1].startswith("encoderblock_"):
        parts[2] = LINEN_NAMES.get(parts[2], parts[2])  # no name stands on both sides
    return "/".join(parts)


def to_npz(state: Mapping[str, torch.Tensor], num_heads: int, *, group_norm_axes: int = 4) -> Arrays:
    """Return a state dict (timm's keys) as arrays in the published layout.

    GroupNorm's arrays are (1, 1, 1, C) in Google's bucket and (C) in today's flax: `group_norm_axes` 4 or 1.
    """
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
    for name in source:
        if name.startswith("patch_embed.backbone.") and name.endswith(".weight"):
            arrays |= _resnet_to_npz(source, name.removesuffix(".weight"), group_norm_axes)
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


def _resnet_to_npz(source: Arrays, name: str, axes: int) -> Arrays:
    """One convolution or GroupNorm of the hybrid's ResNet."""
    place, weight = resnet_place(name), source[f"{name}.weight"]
    if weight.ndim == 4:
        return {f"{place}/kernel": weight.transpose(2, 3, 1, 0)}
    shape = (1,) * (axes - 1) + weight.shape
    return {f"{place}/scale": weight.reshape(shape), f"{place}/bias": source[f"{name}.bias"].reshape(shape)}


def resnet_place(name: str) -> str:
    """timm's module as Google's prefix: patch_embed.backbone.stages.0.blocks.1.norm2 -> block1/unit2/gn2."""
    kinds = {"conv": "conv", "norm": "gn"}
    if name.startswith("patch_embed.backbone.stem."):
        return f"{kinds[name.rpartition('.')[2]]}_root"
    found = RESNET_UNIT.fullmatch(f"{name}.weight")
    assert found, f"{name} is not part of the ResNet"
    stage, unit, part = int(found[1]) + 1, int(found[2]) + 1, found[3]
    kind = part.removeprefix("downsample.")
    end = f"{kinds[kind]}_proj" if part != kind else f"{kinds[kind[:-1]]}{kind[-1]}"
    return f"block{stage}/unit{unit}/{end}"


def to_state(arrays: Arrays, names: Iterable[str]) -> Arrays:
    """Arrays in the published layout as timm's state dict, whose keys are `names`; the inverse of to_npz."""
    state: Arrays = {
        "cls_token": arrays["cls"],
        "patch_embed.proj.weight": arrays["embedding/kernel"].transpose(3, 2, 0, 1),
        "patch_embed.proj.bias": arrays["embedding/bias"],
        "pos_embed": arrays[POS_EMBED],
        **_to_pair("norm", arrays, "Transformer/encoder_norm", "scale"),
    }
    if "head/kernel" in arrays:
        state |= _to_pair("head", arrays, "head", "kernel")
    for index in range(count_layers(arrays)):
        state |= _block_to_state(arrays, f"blocks.{index}", f"Transformer/encoderblock_{index}")
    for name in names:
        if name.startswith("patch_embed.backbone.") and name.endswith(".weight"):
            state |= _resnet_to_state(arrays, name.removesuffix(".weight"))
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


def _resnet_to_state(arrays: Arrays, name: str) -> Arrays:
    place = resnet_place(name)
    if f"{place}/kernel" in arrays:
        return {f"{name}.weight": arrays[f"{place}/kernel"].transpose(3, 2, 0, 1)}
    return {f"{name}.weight": arrays[f"{place}/scale"].reshape(-1), f"{name}.bias": arrays[f"{place}/bias"].reshape(-1)}


def count_layers(arrays: Arrays) -> int:
    """Number of encoder blocks in the file."""
    prefix = "Transformer/encoderblock_"
    return _count(key.removeprefix(prefix).split("/")[0] for key in arrays if key.startswith(prefix))


def _count(indices: Iterable[str]) -> int:
    return len(set(indices))
