# SPDX-License-Identifier: Apache-2.0
"""Real photographs through generate.py run, for a minute; scripts/fashion-mnist alone is the whole run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SHORT = ("train.num_steps=600", "train.warmup_steps=100", "train.eval_every=600", "train.ema_decay=0.99")


def test_a_minute_of_fashion_mnist_is_at_least_75_percent(tmp_path: Path) -> None:
    words = [word for setting in SHORT for word in ("--set", setting)]
    done = subprocess.run(
        [ROOT / "scripts" / "fashion-mnist", *words],
        env=os.environ | {"FASHION_OUTPUT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "fashion-mnist/metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["eval_images"]) == (600, 10_000)
    assert last["top1_percent"] >= 75
    assert (tmp_path / "fashion-mnist.html").read_text().startswith("<!DOCTYPE html>")
    assert f"report: {tmp_path}/fashion-mnist.html" in done.stderr
