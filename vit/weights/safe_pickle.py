# SPDX-License-Identifier: Apache-2.0
"""Reading torch.save's files without executing anything: tensors are rebuilt, other objects become placeholders.

Training programs put their flags (argparse.Namespace), optimizers and numbers of numpy beside the weights; torch's own
safe loader rejects such files as a whole. This module stands in for `pickle` in torch.load.
"""

from __future__ import annotations

import collections
import pickle
from typing import Any, BinaryIO

import torch

ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}
"""The only functions and classes that a file can have called."""


class Placeholder:
    """Stands where a file has an object that is not rebuilt; takes whatever a pickle does with it."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Placeholder:
        """Return an empty one, whatever the arguments."""
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __call__(self, *_args: object, **_kwargs: object) -> Placeholder:
        """Another one."""
        return Placeholder()

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _item: object) -> None:
        """Nothing is kept."""

    def extend(self, _items: object) -> None:
        """Nothing is kept."""

    def add(self, _item: object) -> None:
        """Nothing is kept."""


class Unpickler(pickle.Unpickler):
    """An unpickler that knows the allowed names and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the allowed function or class, a torch.dtype, or the placeholder."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        found = vars(torch).get(name) if module == "torch" else None
        return found if isinstance(found, torch.dtype) else Placeholder


def load(file: BinaryIO, **_options: object) -> Any:
    """One object of a pickle, as pickle.load."""
    return Unpickler(file).load()
