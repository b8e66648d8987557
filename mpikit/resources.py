# SPDX-License-Identifier: Apache-2.0
"""Where the kit's own files are: in a checkout at the top level, in an installed wheel within the package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
"""Folder that contains mpikit/ and vit/."""


def resource(name: str) -> Path:
    """The folder `templates` or `values`."""
    packaged = PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else ROOT / name


TEMPLATES, VALUES = resource("templates"), resource("values")
IS_CHECKOUT = VALUES.parent == ROOT

EXAMPLE_IMAGES = ("vit-cpu:1", "vit-cuda:1")
"""Images of values/cpu.yaml and values/nvidia.yaml, which no registry has."""
EXAMPLE_CLAIMS = ("datasets", "results")
"""Claims of values/gaudi2.yaml, gaudi3.yaml and nvidia.yaml, which a cluster need not have."""

USER_FILE = "user.yaml"
"""The user's own values, in a folder values/."""


def version() -> str:
    """Version of the kit. A checkout tells its own, since another one may be installed."""
    if IS_CHECKOUT:
        lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        return next(line.split('"')[1] for line in lines if line.startswith("version = "))
    from importlib.metadata import version as installed

    return installed("vit-mpijob")
