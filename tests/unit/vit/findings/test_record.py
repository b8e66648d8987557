# SPDX-License-Identifier: Apache-2.0
"""evaluation/ as runs and evaluations leave it, on one rank and on several."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
from PIL import Image  # noqa: E402  # after the skip

from tests.support.running import (  # noqa: E402
    FLAGS,
    Result,
    finish,
    last_file,
    metric_rows,
    start_module,
    start_ranks,
    write_images,
)
from vit.config import Config  # noqa: E402
from vit.data.batches import open_data  # noqa: E402
from vit.model.rollout import rollout  # noqa: E402
from vit.model.transformer import create_model  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402
from vit.training.evaluation import attention_maps, normalise  # noqa: E402

Here = Callable[..., Result]
HARD = "--num_steps 6 --learning_rate 0.001"  # too few steps to be right everywhere


def read(run: Path, name: str) -> Any:
    return json.loads((run / "evaluation" / name).read_text())


def described(run: Path) -> tuple[list[Any], Any]:
    """Samples and their probabilities, which differ a little with the batch that an image is in."""
    samples = read(run, "samples.json")["samples"]
    words = [(one["image"], one["true"], [guess for guess, _ in one["guesses"]]) for one in samples]
    shares = [share for one in samples for _, share in one["guesses"]]
    return words, pytest.approx(shares, abs=1e-3)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """101 validation images of 3 classes, and a run that two ranks trained on the set."""
    root = tmp_path_factory.mktemp("hard")
    write_images(root / "images", num_train=48, num_val=101)
    flags = ("--data_path", str(root / "images"), "--output_dir", str(root), "--name", "a", *HARD.split())
    ranks = finish(start_ranks(2, *flags))
    assert [rank.code for rank in ranks] == [0, 0], ranks
    return root


def test_the_last_evaluation_writes_counts_that_agree_with_evaluation_json(hard: Path) -> None:
    classes, whole = read(hard / "a", "classes.json"), json.loads((hard / "a/evaluation.json").read_text())
    rows = classes["classes"]
    assert (classes["step"], classes["images"]) == (6, 101)
    assert [(row["class"], row["name"], row["images"]) for row in rows] == [
        (0, "class_0", 34),
        (1, "class_1", 34),
        (2, "class_2", 33),
    ]
    right = sum(row["top1"] for row in rows)
    assert 100 * right / 101 == pytest.approx(whole["top1_percent"])
    assert 0 < right < 101
    assert sum(row["top5"] for row in rows) == 101
    assert sum(pair["count"] for pair in classes["pairs"]) == 101 - right
    assert all(pair["true"] != pair["predicted"] for pair in classes["pairs"])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_any_number_of_ranks_finds_the_same_as_the_two_that_trained(
    hard: Path, tmp_path: Path, world_size: int
) -> None:
    run = tmp_path / "a"
    shutil.copytree(hard / "a", run)
    shutil.rmtree(run / "evaluation")
    ranks = finish(start_module("vit.evaluate", world_size, "--pretrained_dir", str(run), "--eval_batch_size", "7"))
    assert [rank.code for rank in ranks] == [0] * world_size, ranks
    assert read(run, "classes.json") == read(hard / "a", "classes.json")
    assert described(run)[0] == described(hard / "a")[0]
    assert described(run)[1].expected == described(hard / "a")[1]


def test_samples_are_small_pictures_wrong_ones_first_and_some_with_what_the_model_looks_at(hard: Path) -> None:
    samples = read(hard / "a", "samples.json")["samples"]
    folder = hard / "a/evaluation"
    wrong = [one["guesses"][0][0] != one["true"] for one in samples]
    assert (len(samples), samples[0]["file"], samples[0]["attention"]) == (24, "sample_000.jpg", "attention_000.jpg")
    assert wrong == sorted(wrong, reverse=True)
    assert 0 < sum(wrong) < 24
    assert all(Path(one["image"]).parent.name == f"class_{one['true']}" for one in samples)
    assert all(0.99 < sum(share for _, share in one["guesses"]) < 1.01 for one in samples)
    assert [one["attention"] is not None for one in samples] == [True] * 6 + [False] * 18
    named = {one[key] for one in samples for key in ("file", "attention") if one[key]}
    assert named == {path.name for path in folder.glob("*.jpg")}
    assert sum(path.stat().st_size for path in folder.glob("*.jpg")) <= 300_000
    sizes = {Image.open(io.BytesIO(path.read_bytes())).size for path in folder.glob("*.jpg")}
    assert sizes == {(16, 16), (160, 160)}


def test_without_samples_no_picture_is_written_and_old_ones_are_removed(here: Here, tmp_path: Path) -> None:
    assert here("--name", "a").code == 0
    assert list((tmp_path / "a/evaluation").glob("*.jpg"))
    assert here("--name", "a", "--eval_only", "--samples", "0").code == 0
    assert {path.name for path in (tmp_path / "a/evaluation").iterdir()} == {"classes.json"}


def test_an_evaluation_copies_no_images_where_the_run_copied_none(here: Here, tmp_path: Path) -> None:
    assert here("--name", "a", "--samples", "0").code == 0
    (done,) = finish(start_module("vit.evaluate", 1, "--pretrained_dir", str(tmp_path / "a")))
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "a/evaluation").iterdir()} == {"classes.json"}


def test_only_the_last_evaluation_is_kept_and_training_is_the_same_with_it(here: Here, tmp_path: Path) -> None:
    assert here("--name", "a", "--ema_decay", "0.9").code == 0
    assert here("--name", "b", "--ema_decay", "0.9", "--samples", "0").code == 0
    assert read(tmp_path / "a", "classes.json")["step"] == read(tmp_path / "a", "samples.json")["step"] == 12
    for name in ("model.pt", "ema.pt"):
        assert last_file(tmp_path / "a", name).read_bytes() == last_file(tmp_path / "b", name).read_bytes()
    assert metric_rows(tmp_path / "a") == metric_rows(tmp_path / "b")


def test_a_folder_that_cannot_be_written_is_a_warning_and_the_run_is_complete(here: Here, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/evaluation").write_text("in the way")
    result = here("--name", "a")
    assert result.code == 0
    assert result.err.count(f"warning: a part of {tmp_path}/a/evaluation is missing (cannot be written or read (") == 2
    assert "(File exists)): the evaluation itself is complete" in result.err
    assert f"python -m vit.evaluate --pretrained_dir {tmp_path}/a writes all of it again" in result.err
    assert json.loads((tmp_path / "a/evaluation.json").read_text())["step"] == 12


def test_an_evaluation_of_other_images_leaves_the_runs_findings_alone(hard: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "other", num_train=3, num_val=6)
    before = {path.name: path.read_bytes() for path in (hard / "a/evaluation").iterdir()}
    flags = ("--pretrained_dir", str(hard / "a"), "--data_path", str(tmp_path / "other"))
    (done,) = finish(start_module("vit.evaluate", 1, *flags))
    assert json.loads(done.out)["eval_images"] == 6
    assert {path.name: path.read_bytes() for path in (hard / "a/evaluation").iterdir()} == before


def test_the_map_is_the_rollout_of_the_evaluated_model_and_a_hybrid_has_none(images: Path) -> None:
    flags = {"model_type": "tiny", "img_size": 16, "dataset": "imagefolder", "data_path": str(images)}
    config = Config(**flags, dropout=0.5)
    data, device = open_data(config), Device(Ranks())
    model = create_model("tiny", 16, 3, dropout=0.5)
    look = attention_maps(model, data.val, device, config)
    assert look is not None
    found = look(5)
    assert model.training
    with torch.no_grad():
        expected = rollout(model.eval().layer_maps(normalise(data.val.batch([(0, 5)]).images, config.scaling)), (2, 2))
    assert found.tolist() == expected[-1, 0].tolist()
    assert attention_maps(model, data.val, device, Config(**{**flags, "model_type": "R50-ViT-B_16"})) is None


def test_too_many_samples_are_refused(here: Here) -> None:
    result = here("--name", "a", "--samples", "25")
    assert result.code == 2
    assert "--samples: 25 is not allowed" in result.err
    assert "give a number up to 24" in result.err


def test_unusual_names_of_classes_are_whole_in_the_file(here: Here, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", num_train=16)
    for part in ("train", "val"):
        for number, name in enumerate(("<script>", "\u202egnp", "été")):
            (root / part / f"class_{number}").rename(root / part / name)
    assert here(*FLAGS, "--name", "a", "--data_path", str(root), "--output_dir", str(tmp_path)).code == 0
    names = [row["name"] for row in read(tmp_path / "a", "classes.json")["classes"]]
    assert names == sorted(["<script>", "\u202egnp", "été"])
