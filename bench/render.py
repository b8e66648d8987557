# SPDX-License-Identifier: Apache-2.0
"""Rendering against the bare import of its four libraries, interleaved; prints the ratios and their spread.

python bench/render.py [PAIRS] [CHECKOUT]    with the checkout of another commit, its rendering and --help too
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "import click, jinja2, pydantic, yaml\nclass Model(pydantic.BaseModel):\n    field: int"
RENDER = ["generate.py", "--no-user-file", "--nodes", "2", "--set", "user=yourusername"]
SIDES = {"import": (ROOT, ["-c", BASE]), "render": (ROOT, RENDER), "help": (ROOT, ["generate.py", "--help"])}


def seconds(folder: Path, words: list[str]) -> float:
    start = time.perf_counter()
    command = [sys.executable, *words]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def tell(rounds: list[dict[str, float]], side: str, base: str) -> None:
    ratios = sorted(one[side] / one[base] for one in rounds)
    print(f"{side} / {base}: median {statistics.median(ratios):.3f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


def main(num_rounds: int, other: Path | None) -> None:
    sides = dict(SIDES)
    if other:
        sides |= {f"other {name}": (other, words) for name, (_, words) in SIDES.items() if name != "import"}
    for folder, words in sides.values():
        seconds(folder, words)  # byte code and page cache
    rounds = [{name: seconds(*side) for name, side in sides.items()} for _ in range(num_rounds)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in sides}
    print(f"{num_rounds} rounds; medians: " + ", ".join(f"{name} {value:.3f} s" for name, value in medians.items()))
    tell(rounds, "render", "import")
    for name in ("render", "help") if other else ():
        tell(rounds, name, f"other {name}")


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "20"]
    main(int(arguments[0]), Path(arguments[1]) if len(sys.argv) > 2 else None)
