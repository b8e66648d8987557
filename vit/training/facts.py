# SPDX-License-Identifier: Apache-2.0
"""What a rank says of itself before step 1: flags, versions, decoders, data, code."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch

from vit.config import Config
from vit.images.jpeg import decoder
from vit.images.resize import has_opencv
from vit.images.turbojpeg import cropper
from vit.runtime.agreement import LOCAL_FLAGS
from vit.runtime.device import Device

if TYPE_CHECKING:
    from importlib.abc import Traversable


ENVIRONMENT = ("PT_HPU_LAZY_MODE", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


def facts_of(config: Config, device: Device, world_size: int) -> dict[str, Any]:
    """Return what this rank runs with, by the name that a message gives it."""
    flags = {f"--{name}": value for name, value in config.as_dict().items() if name not in LOCAL_FLAGS}
    return {
        "number of ranks": world_size,
        **flags,
        "device": device.kind,
        "card": device.name(),
        "trainer's code": code_hash(importlib.resources.files("vit")),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "Pillow": PIL.__version__,
        "Python": platform.python_version(),
        "JPEG decoder": decoder()[0],
        "JPEG crops": "whole images" if cropper().turbo is None else "libjpeg-turbo 3",
        "OpenCV": "used" if has_opencv() else "not used",
        **{name: os.environ.get(name) for name in ENVIRONMENT},
    }


def with_own_flags(common: Config, given: Config) -> Config:
    """Return rank 0's config with this rank's own values of the flags that may differ between nodes."""
    return dataclasses.replace(common, **{name: getattr(given, name) for name in LOCAL_FLAGS})


def code_hash(package: Traversable) -> str:
    """Return a hash of all Python files of a package; the same for a folder and for a zip of it."""
    digest = hashlib.sha256()
    for name, content in sorted(_sources(package, "")):
        digest.update(b"%s %d\n" % (name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()[:12]


def _sources(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
