# SPDX-License-Identifier: Apache-2.0
"""A run that an earlier version of the trainer began is finished by this one, bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.earlier import earlier_checkout  # after the skip
from tests.support.running import FLAGS, ROOT, Result, finish, last_file, metric_rows, start_module


def train(code: Path, images: Path, output: Path, *flags: str) -> Result:
    words = (*FLAGS, "--name", "a", "--data_path", str(images), "--output_dir", str(output), *flags)
    (rank,) = finish(start_module("vit.train", 1, *words, cwd=code))
    assert rank.code == 0, rank.err
    return rank


def result(folder: Path) -> tuple[bytes, bytes, list[dict[str, object]]]:
    return (
        last_file(folder, "model.pt").read_bytes(),
        last_file(folder, "optimizer.pt").read_bytes(),
        metric_rows(folder),
    )


def test_a_run_of_an_earlier_version_is_resumed_bit_for_bit(images: Path, tmp_path: Path) -> None:
    before = earlier_checkout(tmp_path / "before")
    train(before, images, tmp_path / "whole", "--save_every", "6", "--keep_checkpoints", "9")
    whole, cut = tmp_path / "whole" / "a", tmp_path / "cut" / "a"
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step_00000012")
    (cut / "last").write_text("step_00000006\n")
    resumed = train(ROOT, images, cut.parent, "--save_every", "6", "--keep_checkpoints", "9", "--resume", "must")
    assert "step 6" in resumed.err + resumed.out
    assert result(cut) == result(whole)


def test_a_run_that_an_earlier_version_completed_is_complete(images: Path, tmp_path: Path) -> None:
    train(earlier_checkout(tmp_path / "before"), images, tmp_path / "output")
    before = result(tmp_path / "output" / "a")
    train(ROOT, images, tmp_path / "output")
    assert result(tmp_path / "output" / "a") == before
