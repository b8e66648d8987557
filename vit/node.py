# SPDX-License-Identifier: Apache-2.0
"""Check a node for the packages and cards that the ranks need, without importing torch, which takes seconds to minutes.

setup.sh runs `python -m vit.node KIND NUMBER`. If this finds fewer than NUMBER cards, it asks torch, whose count is
final. A torch that cannot be imported is reported when the ranks start (vit.runtime.failures). With --import, before a
restart, it always asks torch, so that a node that returns is waited for until everything works.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vit.errors import TrainError
from vit.runtime.console import write
from vit.runtime.cpus import usable_cpus
from vit.runtime.failures import import_needed

PACKAGES = {"torch": ("torch",), "numpy": ("numpy",), "PIL": ("Pillow", "Pillow-SIMD")}
"""By module, the names of the distributions that contain it."""
TOOL_SECONDS = 30.0  # limit for a driver's tool that hangs


@dataclass(frozen=True)
class Cards:
    """How to find the cards of one kind without their Python packages."""

    tool: tuple[str, ...]
    line: re.Pattern[str]
    """Matches one line of the tool's output for each card."""
    folders: tuple[str, ...]
    file: re.Pattern[str]
    hidden_by: str
    """Environment variable that hides cards from a process; only torch interprets all its forms."""


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
    """Return the versions of torch, numpy and Pillow, "?" if unknown. Raises ImportError if one is absent."""
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
    """Return the number of cards that both the driver's tool and the device files show; 0 if only torch can count them.

    The tool can also list cards of other pods; a device file also exists for a card that does not answer.
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
    """Print "packages TORCH NUMPY PILLOW" and "cards NUMBER", or one line that says why not."""
    kind, needed, options = argv[0] if argv else "", argv[1] if argv[1:] else "", argv[2:]
    if kind not in ("cpu", *CARDS) or not needed.isdecimal() or options not in ([], ["--import"]):
        write(sys.stderr, "usage: python -m vit.node hpu|cuda|cpu NUMBER [--import]\n")
        return 2
    try:
        _report(kind, int(needed), thorough=bool(options))
    except (ImportError, TrainError) as error:
        write(sys.stderr, f"{error}\n")
        return 1
    return 0


def _report(kind: str, needed: int, *, thorough: bool) -> None:
    found = " ".join(versions())
    num_cards = 0 if thorough else seen_cards(kind)
    ask_torch = thorough or num_cards < needed
    if ask_torch:
        import_needed()
    write(sys.stdout, f"packages {found}\n")
    if ask_torch:
        from vit.runtime.devices import count_devices

        num_cards = count_devices(kind)
    write(sys.stdout, f"cards {num_cards}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
