# SPDX-License-Identifier: Apache-2.0
"""What a node has for the ranks: packages and cards, told without an import of torch, which takes seconds to minutes.

`python -m vit.node KIND NUMBER` answers setup.sh. Only if fewer than NUMBER cards are seen is torch asked, whose word
counts. That torch can be imported shows when the ranks start (vit.runtime.failures). Before a restart, --import tries
it: a node that comes back is waited for until all of it works.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vit.runtime.console import write
from vit.runtime.cpus import usable_cpus

PACKAGES = {"torch": ("torch",), "numpy": ("numpy",), "PIL": ("Pillow", "Pillow-SIMD")}
"""By module, the names of the distributions that have it."""
TOOL_SECONDS = 30.0  # a driver's tool that hangs is not waited for


@dataclass(frozen=True)
class Cards:
    """How the cards of one kind show without their software."""

    tool: tuple[str, ...]
    line: re.Pattern[str]
    """Each line of the tool's output that matches is a card."""
    folders: tuple[str, ...]
    file: re.Pattern[str]
    hidden_by: str
    """A variable that hides cards from the process, in a language of its own: then only torch knows."""


CARDS = {
    # nvidia-smi: https://docs.nvidia.com/deploy/nvidia-smi; MIG instances are lines of their own and share a GPU
    "cuda": Cards(
        ("nvidia-smi", "-L"), re.compile(r"GPU \d+: "), ("/dev",), re.compile(r"nvidia\d+"), "CUDA_VISIBLE_DEVICES"
    ),
    # hl-smi: docs.habana.ai, Management and Monitoring; files: habanalabs driver, accel from Linux 6.2 on, hl before
    "hpu": Cards(
        ("hl-smi", "-Q", "index", "-f", "csv,noheader"),
        re.compile(r"\d+\s*$"),
        ("/dev/accel", "/dev"),
        re.compile(r"(accel|hl)\d+"),
        "HABANA_VISIBLE_MODULES",
    ),
}


def versions() -> list[str]:
    """Versions of torch, numpy and Pillow; "?" where a package does not say. Raises ImportError if one is absent."""
    for module in PACKAGES:
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"No module named '{module}'")
    return [_version(names) for names in PACKAGES.values()]


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return importlib.metadata.version(name).replace(" ", "") or "?"
        except (importlib.metadata.PackageNotFoundError, TypeError, ValueError, OSError):  # absent, or broken records
            continue
    return "?"


def seen_cards(kind: str, root: Path = Path("/")) -> int:
    """How many cards the driver's tool lists and device files show; 0 if only torch knows.

    The tool alone may also list those of other pods, files alone a card that does not answer.
    """
    if kind == "cpu":
        return usable_cpus()
    cards = CARDS[kind]
    if cards.hidden_by in os.environ:
        return 0
    files = _files(cards, root)
    try:
        done = subprocess.run(cards.tool, capture_output=True, text=True, errors="replace", timeout=TOOL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return files
    listed = sum(cards.line.match(line) is not None for line in done.stdout.splitlines())
    return min(listed, files or listed) if done.returncode == 0 else 0


def _files(cards: Cards, root: Path) -> int:
    for folder in cards.folders:
        files = (root / folder.lstrip("/")).glob("*")
        if found := sum(cards.file.fullmatch(file.name) is not None for file in files):
            return found
    return 0


def main(argv: list[str]) -> int:
    """Print "packages TORCH NUMPY PILLOW" and "cards NUMBER"."""
    kind, needed, options = argv[0] if argv else "", argv[1] if argv[1:] else "", argv[2:]
    if kind not in ("cpu", *CARDS) or not needed.isdecimal() or options not in ([], ["--import"]):
        write(sys.stderr, "usage: python -m vit.node hpu|cuda|cpu NUMBER [--import]\n")
        return 2
    try:
        found = " ".join(versions())
        if options:
            for module in PACKAGES:
                importlib.import_module(module)
    except ImportError as error:
        write(sys.stderr, f"{error}\n")
        return 1
    write(sys.stdout, f"packages {found}\n")
    num_cards = 0 if options else seen_cards(kind)
    if num_cards < int(needed):
        from vit.runtime.devices import count_devices

        num_cards = count_devices(kind)
    write(sys.stdout, f"cards {num_cards}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
