# SPDX-License-Identifier: Apache-2.0
"""A few of the cuts that scripts/soak_resume.py makes after every step."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.resuming import Cuts  # after the skip


def test_a_cut_between_lines_and_one_at_an_epochs_end_change_no_bit(tmp_path: Path) -> None:
    cuts = Cuts(tmp_path, "adamw")
    for step in (20, 45):
        assert cuts.resumed_after(step) == cuts.whole, step
