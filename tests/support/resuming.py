# SPDX-License-Identifier: Apache-2.0
"""A run cut after any of its steps and resumed, against the run that nothing cut."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from pathlib import Path

from tests.support.running import finish, last_file, metric_rows, start_ranks, write_images

NUM_STEPS = 60
FLAGS = shlex.split(
    f"--name a --train_batch_size 4 --gradient_accumulation_steps 2 --num_steps {NUM_STEPS} --log_every 7 "
    "--eval_every 25 --dropout 0.1 --augment inception --aa rand-m9-mstd0.5-inc1 --reprob 0.3 --mixup 0.8 "
    "--label_smoothing 0.1 --ema_decay 0.9 --layer_decay 0.8 --keep_checkpoints 99 --optimizer"
)
"""Two ranks of 2 x 2 images are 20 steps an epoch of 166 images, 6 of which an epoch leaves out."""


def run(data: Path, root: Path, *flags: str) -> Path:
    """Two ranks to the end; the run's folder."""
    ranks = finish(start_ranks(2, *FLAGS, *flags, "--data_path", str(data), "--output_dir", str(root)))
    assert [rank.code for rank in ranks] == [0, 0], ranks
    return root / "a"


def digests(folder: Path) -> dict[str, str]:
    """sha256 of the last checkpoint's files and of the metric lines."""
    names = ("model.pt", "optimizer.pt", "ema.pt", "state.json")
    files = {name: last_file(folder, name).read_bytes() for name in names}
    files["state.json"] = b""  # it names the flags, and save_every differs
    contents = {**files, "metrics": repr(metric_rows(folder)).encode()}
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


class Cuts:
    """Checkpoints of every step, and the digests of the run that was never cut."""

    def __init__(self, root: Path, optimizer: str) -> None:
        self.root, self.optimizer = root, optimizer
        self.data = write_images(root / "data", num_train=166)
        self.whole = digests(run(self.data, root / "whole", optimizer))
        self.steps = run(self.data, root / "steps", optimizer, "--save_every", "1")

    def complete(self) -> dict[str, str]:
        """Digests of the run that was saved at every step, its last one too."""
        return digests(self.steps)

    def resumed_after(self, step: int) -> dict[str, str]:
        """Digests of a run that has the checkpoint of `step` only, resumed to the end."""
        folder = self.root / f"after_{step}" / "a"
        (folder / "checkpoints").mkdir(parents=True)
        name = f"step_{step:08d}"
        shutil.copytree(self.steps / "checkpoints" / name, folder / "checkpoints" / name)
        shutil.copy(self.steps / "metrics.jsonl", folder)
        found = digests(run(self.data, folder.parent, self.optimizer, "--resume", "must"))
        shutil.rmtree(folder.parent)
        return found
