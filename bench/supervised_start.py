# SPDX-License-Identifier: Apache-2.0
"""What the supervisor and its watchdog cost a run without faults: seconds to the first step, and of a step.

python bench/supervised_start.py [--pairs 10] [--steps 300]

A pair is `generate.py run` of values/cpu.yaml on two nodes of this machine with `restarts: {max: 0}`, which is neither
supervised nor watched, and with the default, in turning order. Prints both medians, the differences and their spread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def measure(restarts: int, num_steps: int) -> tuple[float, float]:
    """Seconds from the command to the first recorded step, and the median of a step."""
    with tempfile.TemporaryDirectory() as output:
        settings = (
            *(f"output={output}", "user=ada", f"restarts.max={restarts}", f"train.num_steps={num_steps}"),
            *(f"train.eval_every={num_steps}", "train.log_every=1"),
        )
        words = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, ROOT / "generate.py", "run", "--no-user-file", "-f", "cpu.yaml", "--nodes", "2"]
        # The project's own mpirun is beside its Python.
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        metrics = Path(output, "synthetic", "metrics.jsonl")
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as run:
            while not (metrics.exists() and metrics.stat().st_size):
                if run.poll() is not None:
                    raise SystemExit(f"the run ended with exit code {run.returncode} before a step")
                time.sleep(0.01)
            first = time.perf_counter() - began
            _, said = run.communicate()
        if run.returncode:
            raise SystemExit(said.decode(errors="replace"))
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
        return first, statistics.median(row["step_seconds"] for row in rows[10:] if row["step_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    measure(0, 20)  # byte code and page cache
    plain, watched = [], []
    for number in range(options.pairs):
        for restarts, found in ((0, plain), (20, watched)) if number % 2 else ((20, watched), (0, plain)):
            found.append(measure(restarts, options.steps))
    print(f"{options.pairs} pairs of runs, without and with restarts")
    for name, place, unit, scale in (("first step", 0, "s", 1), ("a step", 1, "ms", 1000)):
        before, after = ([scale * one[place] for one in side] for side in (plain, watched))
        later = sorted(b - a for a, b in zip(before, after, strict=True))
        ratios = sorted(b / a for a, b in zip(before, after, strict=True))
        print(
            f"{name}: {statistics.median(before):.2f} and {statistics.median(after):.2f} {unit}; "
            f"difference {statistics.median(later):.2f} {unit} ({later[0]:.2f} to {later[-1]:.2f}), "
            f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
