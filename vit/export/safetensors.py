# SPDX-License-Identifier: Apache-2.0
"""Write a .safetensors file without the package: 8 bytes of length, a JSON header, then the arrays in turn."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

HEADER_ALIGNMENT = 8  # bytes; the arrays then lie as the format asks for


def write_safetensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write the tensors as float32 under their keys, marked as PyTorch's; the same bytes for the same weights."""
    arrays = {key: tensor.detach().cpu().float().contiguous().numpy() for key, tensor in state.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, array in arrays.items():
        start, end = end, end + array.nbytes
        header[key] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").data)
