# SPDX-License-Identifier: Apache-2.0
"""check on files that cost time or are no files beside check on a usual one, interleaved; prints what each takes more.

python bench/hostile_files.py [ROUNDS]
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.hostile.files import FILES  # noqa: E402  after the path

COMMAND = [sys.executable, "generate.py", "check", "--no-user-file", "-f", "cpu.yaml", "-f"]


def check(file: Path) -> tuple[int, float, float]:
    """Exit code, wall and CPU seconds of a check."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*COMMAND, str(file)], cwd=ROOT, capture_output=True, env=os.environ | {"LOGNAME": "ada"}, check=False
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(num_rounds: int) -> int:
    """0 if every hostile file was refused with exit code 2."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        usual = Path(name) / "usual.yaml"
        usual.write_text("nodes: 1\n")
        for number, (kind, (make, _)) in enumerate(FILES.items()):
            file = Path(name) / f"{number}.yaml"
            make(file)
            pairs = [(check(usual), check(file)) for _ in range(num_rounds)]
            wrong += any(code != 2 for _, (code, _, _) in pairs)
            wall, cpu = (statistics.median(theirs[n] - ours[n] for ours, theirs in pairs) for n in (1, 2))
            codes = sorted({theirs[0] for _, theirs in pairs})
            print(f"{kind:28} exit {codes}  {wall:+.2f} s of wall time, {cpu:+.2f} s of CPU")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"{len(FILES)} kinds, {wrong} not refused; the largest process had {peak} MiB")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
