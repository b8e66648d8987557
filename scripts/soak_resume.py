# SPDX-License-Identifier: Apache-2.0
"""Cut a run of two ranks after every one of its 60 steps and resume it: how many end bit-identical to the run uncut?

python scripts/soak_resume.py [sgd|adamw]    prints a line for each cut that differs, then the count; about ten minutes
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.resuming import NUM_STEPS, Cuts


def main(optimizer: str) -> int:
    """0 if no cut changed anything."""
    with tempfile.TemporaryDirectory() as folder:
        cuts = Cuts(Path(folder), optimizer)
        same = 0
        for step in range(1, NUM_STEPS + 1):
            found = cuts.resumed_after(step) if step < NUM_STEPS else cuts.complete()
            different = [name for name in found if found[name] != cuts.whole[name]]
            same += not different
            if different:
                sys.stdout.write(f"after step {step}: {', '.join(different)} differ\n")
    sys.stdout.write(f"{optimizer}: {same} of {NUM_STEPS} resumes ended bit-identical\n")
    return int(same != NUM_STEPS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "sgd"))
