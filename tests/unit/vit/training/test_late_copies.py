# SPDX-License-Identifier: Apache-2.0
"""A device that copies as late as it may, as a GPU's own stream can: a checkpoint has the values of its step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, ROOT, clean_environment, write_images

# Stands in for a GPU: the copies are made when changes are held back, or half a second later.
LATE = """
import sys, threading
from vit.runtime.device import Device

class Late:
    def __init__(self, pairs):
        self.pairs, self.lock, self.made = pairs, threading.Lock(), threading.Event()
    def make(self):
        with self.lock:
            for place, tensor in self.pairs:
                place.copy_(tensor)
            self.pairs = []
        self.made.set()
    def wait(self):
        self.made.wait(0.5)
        self.make()

def copy_to_host(self, pairs):
    self.late = Late([(place, tensor.detach()) for place, tensor in pairs])
    return self.late.wait

def hold_changes(self):
    if getattr(self, "late", None) is not None:
        self.late.make()
        self.late = None

if sys.argv[1] == "late":
    Device.copy_to_host, Device.hold_changes = copy_to_host, hold_changes
from vit.train import main
sys.exit(main(sys.argv[2:]))
"""


def checkpoints(root: Path, data: Path, kind: str) -> dict[str, bytes]:
    """All weights, momenta and averages that a run saves."""
    flags = ["--name", "a", "--save_every", "1", "--keep_checkpoints", "99", "--ema_decay", "0.9", "--eval_every", "4"]
    done = subprocess.run(
        [sys.executable, "-c", LATE, kind, *FLAGS, *flags, "--data_path", str(data), "--output_dir", str(root / kind)],
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    folder = root / kind / "a/checkpoints"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("step_*/*.pt")}


def test_copies_that_are_made_late_have_the_values_of_their_step(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", num_train=32)
    expected = checkpoints(tmp_path, data, "at once")
    assert len(expected) == 12 * 3
    assert checkpoints(tmp_path, data, "late") == expected
