# SPDX-License-Identifier: Apache-2.0
"""The index of a folder of images against a bare walk of it, interleaved; and how long the kept index takes to
open, with its checksum and its bounds checked.

python bench/index.py [FILES] [ROUNDS]: 100,000 empty files in 100 classes unless told otherwise; wall time, warm.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from vit.data.folder_index import make_index, read_index, write_index

NUM_CLASSES = 100


def make_files(root: Path, count: int) -> None:
    for number in range(NUM_CLASSES):
        folder = root / f"n{number:08d}"
        folder.mkdir(parents=True)
        for place in range(count // NUM_CLASSES):
            os.mknod(folder / f"n{number:08d}_{place}.JPEG")


def bare_walk(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(num_files: int, num_rounds: int) -> None:
    with TemporaryDirectory() as folder:
        root, kept = Path(folder) / "train", Path(folder) / "kept"
        make_files(root, num_files)
        index = make_index(root)
        write_index(kept, index)
        sides: dict[str, Callable[[], object]] = {
            "walk": lambda: bare_walk(root),
            "index": lambda: make_index(root),
            "open and verify": lambda: read_index(kept, root),
        }
        rounds = [{name: seconds(work) for name, work in sides.items()} for _ in range(num_rounds)]
        medians = ", ".join(f"{name} {statistics.median(each[name] for each in rounds):.4f} s" for name in sides)
        speeds = sorted(each["walk"] / each["index"] for each in rounds)
        print(f"{len(index):,} files, {num_rounds} rounds; medians: {medians}")
        print(f"speed against a bare walk: {statistics.median(speeds):.0%} ({speeds[0]:.0%} to {speeds[-1]:.0%})")
        print(f"memory: {(index.names.nbytes + index.ends.nbytes + index.labels.nbytes) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]), *(100_000, 7)[len(sys.argv) - 1 :])
