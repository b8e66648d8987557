# SPDX-License-Identifier: Apache-2.0
"""Imports of packages that may be absent or broken: needed ones end the run, optional ones give one warning."""

from __future__ import annotations

import functools
import importlib
import logging
import multiprocessing
import os
from types import ModuleType

logger = logging.getLogger(__name__)

ORIGINAL = "Original error was: "  # numpy's text, which has a page of advice before it


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
        if not is_absent(error, package):
            _warn("%s is installed but cannot be imported (%s): continuing without it", package, reason_of(error))
        return None


def is_absent(error: BaseException, package: str) -> bool:
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
