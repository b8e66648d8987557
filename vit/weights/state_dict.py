# SPDX-License-Identifier: Apache-2.0
"""State dicts in files of torch.save or .safetensors: timm's, Hugging Face's, and those of training programs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vit.errors import WeightsError
from vit.packages import optional_package
from vit.weights import safe_pickle
from vit.weights.file_kinds import AGAIN, CONVERT, Kind
from vit.weights.npz import Arrays
from vit.weights.ports import HF_MARK, from_hugging_face, without_prefixes

AVERAGES = ("state_dict_ema", "model_ema")
"""Keys under which training programs keep an average of the weights; timm takes it where there is one."""
WRAPPERS = (*AVERAGES, "state_dict", "model", "model_state_dict", "teacher")
"""Keys under which they keep weights, the first that is there counts."""
MOST_WRAPPERS = 4
LOAD_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,
    pickle.UnpicklingError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def read_state(path: Path, kind: Kind) -> tuple[Arrays, str, list[str]]:
    """The file's arrays under timm's keys, "timm" or "Hugging Face", and what was chosen. Raises WeightsError."""
    found, notes = (_read_safetensors(path), []) if kind == "safetensors" else _read_torch(path)
    arrays = {key: _array(tensor, key, path) for key, tensor in without_prefixes(found).items()}
    if HF_MARK in arrays:
        return from_hugging_face(arrays, str(path)), "Hugging Face", notes
    return arrays, "timm", notes


def _array(tensor: torch.Tensor, key: str, path: Path) -> Any:
    """Return a tensor as numpy's; floating-point numbers become float32, others stay what they are."""
    if tensor.is_quantized or tensor.layout != torch.strided or tensor.is_meta:
        raise WeightsError(str(path), f'key "{key}" is quantised or sparse', "give weights in floating-point numbers")
    plain = tensor.detach().cpu()
    return plain.float().numpy() if plain.is_floating_point() else plain.numpy()


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
        raise WeightsError(str(path), "is a damaged .safetensors file", AGAIN) from error


def _read_torch(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    found, notes = _load(path), []
    for _ in range(MOST_WRAPPERS):
        name = next(
            (key for key in WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)), None
        )
        if name is None:
            break
        if name in AVERAGES:
            notes.append(f"the file has an average of the weights, {name}: it is used, as timm does")
        found = found[name]
    if isinstance(found, Mapping) and found and all(isinstance(value, torch.Tensor) for value in found.values()):
        return {str(key): value for key, value in found.items()}, notes
    raise WeightsError(str(path), _not_weights(found), CONVERT)


def _not_weights(found: object) -> str:
    """Return what an object is that has no state dict."""
    if isinstance(found, safe_pickle.Placeholder):
        return "is a complete Python object, such as a model, whose code is not executed"
    if not isinstance(found, Mapping):
        return "has no state dict of tensors"
    objects = [str(key) for key, value in found.items() if isinstance(value, safe_pickle.Placeholder)]
    if objects and any(isinstance(value, torch.Tensor) for value in found.values()):
        return f"has Python objects among its tensors ({', '.join(objects[:3])}); they are not executed"
    return f"has no state dict of tensors, but {', '.join(map(str, list(found)[:5])) or 'nothing'}"


def _load(path: Path) -> Any:
    """Return the file's object: by torch's safe loader, else by ours, which skips what is not a tensor."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass
    except LOAD_ERRORS as error:
        raise _damaged(path) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=safe_pickle)
    except LOAD_ERRORS as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> WeightsError:
    return WeightsError(str(path), "is a damaged or cut off file of torch.save", AGAIN)
