# SPDX-License-Identifier: Apache-2.0
"""vit.predict, and what vit.evaluate and it take from the run's config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, finish, start_module, write_images  # after the skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps."""
    root = tmp_path_factory.mktemp("run")
    images = write_images(root / "images", num_train=40)
    flags = ("--data_path", str(images), "--output_dir", str(root), "--name", "a", "--eval_resize", "crop")
    (done,) = finish(start_module("vit.train", 1, *FLAGS, *flags))
    assert done.code == 0, done.err
    return root / "a"


def test_an_evaluation_of_a_run_needs_no_flags_beside_its_folder(trained: Path) -> None:
    for place in (trained, trained / "checkpoints/step_00000012", trained / "checkpoints/step_00000012/model.pt"):
        (done,) = finish(start_module("vit.evaluate", 1, "--pretrained_dir", str(place)))
        assert done.code == 0, done.err
        found, kept = json.loads(done.out), json.loads((trained / "evaluation.json").read_text())
        assert (found["eval_images"], found["model_type"], found["img_size"]) == (13, "tiny", 16)
        if place != trained:  # the run itself stands for its best checkpoint
            assert found["eval_loss"] == pytest.approx(kept["eval_loss"], rel=1e-5)
        assert f"flags of the run's config.json: --dataset=imagefolder --data_path={trained.parent}/images" in done.err


def test_a_flag_that_is_given_wins_over_the_runs(trained: Path, tmp_path: Path) -> None:
    other = write_images(tmp_path / "other", num_train=3, num_val=6)
    (done,) = finish(start_module("vit.evaluate", 1, "--pretrained_dir", str(trained), "--data_path", str(other)))
    assert json.loads(done.out)["eval_images"] == 6


def test_predictions_name_each_validation_image_once_and_agree_with_the_evaluation(trained: Path) -> None:
    place = trained / "checkpoints/step_00000012"
    (done,) = finish(start_module("vit.predict", 1, f"--pretrained_dir={place}"))
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(row["image"] for row in rows) == sorted(map(str, trained.parent.glob("images/val/*/*.png")))
    assert all(row["class"] == Path(row["image"]).parent.name and 0 < row["probability"] <= 1 for row in rows)
    right = sum(row["class"] == row["prediction"] for row in rows)
    assert 100 * right / 13 == pytest.approx(json.loads((trained / "evaluation.json").read_text())["top1_percent"])
