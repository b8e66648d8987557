# SPDX-License-Identifier: Apache-2.0
"""Rendering against the bare import of its four libraries, interleaved; prints the ratio and its spread.

python bench/render.py [PAIRS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "import click, jinja2, pydantic, yaml\nclass Model(pydantic.BaseModel):\n    field: int"
SIDES = {
    "import": [sys.executable, "-c", BASE],
    "render": [sys.executable, "generate.py", "--no-user-file", "--nodes", "2", "--set", "user=yourusername"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main(num_pairs: int) -> None:
    for command in SIDES.values():
        seconds(command)  # byte code and page cache
    pairs = [{name: seconds(command) for name, command in SIDES.items()} for _ in range(num_pairs)]
    ratios = sorted(pair["render"] / pair["import"] for pair in pairs)
    medians = {name: statistics.median(pair[name] for pair in pairs) for name in SIDES}
    print(f"{num_pairs} pairs; medians: import {medians['import']:.3f} s, render {medians['render']:.3f} s")
    print(f"ratio: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
