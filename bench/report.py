# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of `report` for an invented run of 20,000 steps on 336 ranks, as text, JSON and HTML.

python bench/report.py [STEPS_PER_LINE]    50 by default, as the trainer; with 1, metrics.jsonl has a line for each step
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.reported import write_reported  # noqa: E402  # after the path


def measure(run: Path, form: str) -> None:
    """Print what one process needs for one report."""
    target = run.parent / f"report.{form}"
    command = [sys.executable, str(ROOT / "generate.py"), "report", str(run), "-o", form, "--out", str(target)]
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"report -o {form} failed")
    own = usage.ru_utime + usage.ru_stime
    size, memory = target.stat().st_size / 1000, usage.ru_maxrss / 1024
    print(f"{form}: {seconds:.2f} s, of which {own:.2f} s on a processor; {memory:.0f} MiB; file of {size:,.0f} kB")


def main(every: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = write_reported(Path(folder), every=every)
        for form in ("text", "json", "html"):
            measure(run, form)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
