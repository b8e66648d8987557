# SPDX-License-Identifier: Apache-2.0
"""Imports of packages that may be absent or broken: needed ones end the run, optional ones give one warning."""

from __future__ import annotations

import functools
import importlib
import logging
import multiprocessing
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from vit.errors import ConfigError
from vit.failures import name_failure

logger = logging.getLogger(__name__)

NEEDED = ("torch", "numpy", "PIL.Image")
ORIGINAL = "Original error was: "  # numpy's text, which has a page of advice before it


def import_needed(names: Sequence[str] = NEEDED) -> None:
    """Import what every run needs. Raises ConfigError where a package is absent or broken."""
    for name in names:
        package = name.partition(".")[0]
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            if _is_absent(error, package):
                what = f"this Python ({sys.executable}) has no {package}"
                fix = "pip install torch numpy pillow, or use the right image"
                raise ConfigError("python", what, fix) from error
            what = f"{package} of this Python ({sys.executable}) cannot be imported ({reason_of(error)})"
            fix = "install it again, or use the right image"
            raise name_failure(error) or ConfigError("python", what, fix) from error


@functools.cache
def optional_package(name: str, package: str = "", needs: tuple[str, ...] = ()) -> ModuleType | None:
    """Return module `name`, None where its package is absent, or broken: then with one warning on each node.

    `package` is the one to name, where it is not the first part of `name`; `needs` are attributes that a half installed
    package lacks.
    """
    package = package or name.partition(".")[0]
    try:
        module = importlib.import_module(name)
        for attribute in needs:
            getattr(module, attribute)
        return module
    except (Exception, SystemExit) as error:  # a package can raise anything while it is imported
        if not _is_absent(error, package):
            _warn("%s is installed but cannot be imported (%s): going on without it", package, reason_of(error))
        return None


def _is_absent(error: BaseException, package: str) -> bool:
    return isinstance(error, ModuleNotFoundError) and error.name == package


def _warn(text: str, *arguments: str) -> None:
    """Warn once a node: not in the processes that decode images, and on the first rank of a node alone."""
    local = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", os.environ.get("LOCAL_RANK", "0"))
    if multiprocessing.parent_process() is None and local == "0":
        logger.warning(text, *arguments)


def reason_of(error: BaseException) -> str:
    """One line of what a package said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    original = [line.removeprefix(ORIGINAL) for line in lines if line.startswith(ORIGINAL)]
    return ((original or lines) or ["it gives no reason"])[0][:200]
