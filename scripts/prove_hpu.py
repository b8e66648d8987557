# SPDX-License-Identifier: Apache-2.0
"""What scripts/prove-hpu does: five short runs on a Gaudi, each with a sentence of what was seen and a verdict.

1. the cards are counted;  2. the same 20 steps in float32 on the card and on the CPU have the same losses;
3. a run that loses its last checkpoint resumes and ends with the same loss;  4. ViT-B_16 at 384 px in bfloat16: images
a second, TFLOP/s, memory;  5. with more than one card, the same global batch on all of them under mpirun.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path(os.environ.get("PROVE_OUTPUT", ROOT / "output" / "prove-hpu"))
SMALL = (
    "--dataset synthetic --synthetic_images 320 --synthetic_classes 10 --model_type tiny --num_steps 20 --log_every 5 "
)
SMALL += "--eval_every 10 --train_batch_size 16 --warmup_steps 5 --learning_rate 0.05 --num_workers 1"
LARGE = "--dataset synthetic --synthetic_images 640 --img_size 384 --autocast --train_batch_size 64 --num_steps 60 "
LARGE += "--gradient_accumulation_steps 2 --log_every 10 --eval_every 60 --warmup_steps 10"
LARGE += f" {os.environ.get('PROVE_LARGE', '--model_type ViT-B_16')}"  # a test makes it small
CLOSE = 0.02  # of a loss: other kernels round otherwise, and 20 steps let that grow

Rows = list[dict[str, Any]]


class Failed(Exception):
    """A run or a comparison that says no."""


def train(name: str, flags: str, *, device: str = "hpu", ranks: int = 1) -> Rows:
    """The metric lines of one run of the trainer."""
    words = [sys.executable, "-m", "vit.train", *flags.split(), "--device", device, "--name", name]
    words += ["--output_dir", str(OUTPUT)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # Habana's images set it
    environment = {**os.environ, "PYTHONPATH": path, "MASTER_ADDR": "localhost", "MASTER_PORT": "15566"}
    if ranks > 1:
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        words, environment = ["mpirun", "-np", str(ranks), "--bind-to", "none", *words], {**environment, **root}
    done = subprocess.run(words, env=environment, cwd=OUTPUT, text=True, capture_output=True)
    if done.returncode:
        raise Failed(f"the trainer ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return read(name)


def read(name: str) -> Rows:
    """The metric lines of a run."""
    return [json.loads(line) for line in (OUTPUT / name / "metrics.jsonl").read_text().splitlines()]


def compare(first: Rows, second: Rows, limit: float) -> float:
    """Largest relative difference of the losses. Raises Failed above the limit."""
    pairs = [(a["loss"], b["loss"]) for a, b in zip(first, second, strict=True)]
    found: float = max(abs(a - b) / abs(b) for a, b in pairs)
    if found > limit:
        raise Failed(f"the losses differ by {found:.1e}, more than {limit:.0e}: {pairs}")
    return found


def cards(wanted: int) -> str:
    """Count them."""
    command = [sys.executable, "-m", "vit.runtime.devices", "hpu"]
    found = int(subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout)
    if found < wanted:
        raise Failed(f"{found} cards answer, {wanted} are asked for: see hl-smi, and the pod's habana.ai/gaudi")
    return f"{found} cards answer"


def same_as_cpu(_: int) -> str:
    """The small run on both."""
    found = compare(train("small", SMALL), train("small-cpu", SMALL, device="cpu"), CLOSE)
    return f"20 steps in float32: the losses are the CPU's to {found:.1e}"


def resumes(_: int) -> str:
    """The small run again from its checkpoint of step 10."""
    before = read("small")
    shutil.copytree(OUTPUT / "small", OUTPUT / "again")
    shutil.rmtree(OUTPUT / "again/checkpoints/step_00000020")
    found = compare(train("again", SMALL), before, CLOSE)
    return f"resumed after step 10: the losses are those of the run uncut to {found:.1e} (0 is exact)"


def speed(_: int) -> str:
    """The large run; the first interval compiles graphs and is left out by taking the last line."""
    row = train("large", LARGE)[-1]
    rate, tflops = row["images_per_second"], row["tflop_per_second"]
    memory = "unknown" if row["peak_memory_gib"] is None else f"{row['peak_memory_gib']:.1f} GiB"
    waited = f"{row['data_seconds']:.3f} of {row['step_seconds']:.3f} s a step waiting for images"
    return f"one card: {rate:.1f} images/s, {tflops:.1f} TFLOP/s, memory {memory}, {waited}"


def all_cards(count: int) -> str:
    """The small run over all cards with the same global batch, then the large one."""
    if count == 1:
        return "only one card asked for: nothing to compare"
    split = SMALL.replace("--train_batch_size 16", f"--train_batch_size {16 // count}")
    found = compare(train("small-all", split, ranks=count), read("small"), CLOSE)
    many = LARGE.replace("--synthetic_images 640", f"--synthetic_images {640 * count}")
    row = train("large-all", many, ranks=count)[-1]
    one = read("large")[-1]["images_per_second"]
    rate = row["images_per_second"]
    share = f"{rate:.0f} images/s, {100 * rate / count / one:.0f} % of {count} times one"
    return f"{count} cards: the same losses to {found:.1e}; {share}"


CHECKS: tuple[Callable[[int], str], ...] = (cards, same_as_cpu, resumes, speed, all_cards)


def main(argv: list[str]) -> int:
    """0 if every check says yes; results also in OUTPUT/prove-hpu.txt."""
    count = int(argv[0]) if argv else 1
    if count not in (1, 2, 4, 8):
        sys.stderr.write("scripts/prove-hpu: CARDS is 1, 2, 4 or 8, which divide the batch of 16\n")
        return 2
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    lines = []
    for check in CHECKS:
        try:
            lines.append(f"ok      {check.__name__}: {check(count)}")
        except Failed as error:
            lines.append(f"FAILED  {check.__name__}: {error}")
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
        if lines[-1].startswith("FAILED"):
            break
    (OUTPUT / "prove-hpu.txt").write_text("\n".join(lines) + "\n")
    return int(lines[-1].startswith("FAILED"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
