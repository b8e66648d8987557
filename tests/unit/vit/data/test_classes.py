# SPDX-License-Identifier: Apache-2.0
"""Evaluations of own checkpoints: labels go by class name, settings come from the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import Result, finish, start_module  # after the skip
from vit import evaluate
from vit.class_names import by_position, difference, match_names

Here = Callable[..., Result]
Evaluate = Callable[..., Result]


@pytest.mark.parametrize(
    ("found", "known", "numbers"),
    [
        (["a", "b"], ["b", "a"], [1, 0]),
        (["0", "1", "10", "2"], ["0", "1", "2", "10"], [0, 1, 3, 2]),
        (["00", "01", "02"], ["0", "1", "2"], [0, 1, 2]),
        (["cafe\u0301", "x"], ["x", "caf\u00e9"], [1, 0]),  # e + accent, as macOS writes it, for one letter
        (["b"], ["a", "b"], [1]),
    ],
)
def test_names_are_matched_whatever_their_order_and_form(
    found: list[str], known: list[str], numbers: list[int]
) -> None:
    match = match_names(found, known)
    assert [match.numbers[name] for name in found] == numbers
    assert not match.unknown


@pytest.mark.parametrize(
    ("found", "known", "unknown"),
    [
        (["1", "01"], ["1"], ["01"]),
        (["01", "001"], ["1"], ["01", "001"]),
        (["1"], ["01", "001"], ["1"]),
        (["A"], ["a"], ["A"]),
        (["a", "b"], ["b"], ["a"]),
    ],
)
def test_what_could_mean_two_classes_or_none_is_not_matched(
    found: list[str], known: list[str], unknown: list[str]
) -> None:
    assert match_names(found, known).unknown == unknown


def test_numbers_sorted_as_text_are_pointed_out_where_the_weights_have_no_names() -> None:
    names = sorted(str(number) for number in range(12))
    assert by_position(names, "w.npz").endswith('numbers sorted as text: output 2 is "10"')
    assert "sorted as text" not in by_position([f"{number:02d}" for number in range(12)], "w.npz")


def test_a_difference_names_a_few_and_counts_the_rest() -> None:
    assert difference(["a", "b", "c", "d", "e"], ["e"]) == '4 new: "a", "b", "c" and 1 more'
    assert difference(["a", "b"], ["b", "a"]) == "the same names in another order"


@pytest.fixture
def run(here: Here, tmp_path: Path) -> Path:
    """A run that has learnt its three classes, of brightness, with erf."""
    flags = ["--num_steps", "60", "--eval_every", "60", "--log_every", "60", "--learning_rate", "0.2"]
    assert here("--name", "a", "--gelu", "erf", *flags).code == 0
    return tmp_path / "a"


@pytest.fixture
def evaluated(run: Path, images: Path, capfd: pytest.CaptureFixture[str]) -> Evaluate:
    """Evaluate the run with no flag but these."""

    def go(data: Path, *flags: str) -> Result:
        common = ["--dataset", "imagefolder", "--device", "cpu", "--num_workers", "0", "--per_class"]
        code = evaluate.main([*common, "--pretrained_dir", str(run), "--data_path", str(data), *flags])
        return Result(code, *capfd.readouterr())

    return go


def renamed(images: Path, to: Path, **names: str) -> Path:
    """A copy of the validation images with other names of the folders; "" leaves a class out."""
    for old, new in names.items():
        if new:
            shutil.copytree(images / "val" / old, to / "val" / new)
    return to


def test_labels_and_settings_of_an_evaluation_are_the_checkpoints(
    evaluated: Evaluate, run: Path, images: Path, tmp_path: Path
) -> None:
    trained = json.loads((run / "evaluation.json").read_text())
    plain = evaluated(images)
    assert plain.code == 0, plain.err
    found = json.loads(plain.out)
    assert {key: found[key] for key in ("model_type", "img_size", "gelu")} == {
        "model_type": "tiny",
        "img_size": 16,
        "gelu": "erf",
    }
    for key in ("top1_percent", "eval_loss", "eval_images"):
        assert found[key] == pytest.approx(trained[key], rel=1e-5), key
    _another_order(evaluated, run, images, tmp_path, found)
    _a_subset(evaluated, images, tmp_path, found)
    _unknown_names(evaluated, images, tmp_path)
    _flags_that_contradict(evaluated, images)
    _on_two_ranks(run, tmp_path)


def _on_two_ranks(run: Path, tmp_path: Path) -> None:
    flags = ["--dataset", "imagefolder", "--device", "cpu", "--num_workers", "1", "--classes", "subset", "--per_class"]
    place = ["--pretrained_dir", str(run), "--data_path", str(tmp_path / "part")]
    ranks = finish(start_module("vit.evaluate", 2, *flags, *place))
    assert [rank.code for rank in ranks] == [0, 0], ranks
    found = json.loads(ranks[0].out)
    assert (found["eval_images"], found["model_classes"], found["per_class"]["class_1"]["images"]) == (8, 3, 4)


def _another_order(evaluated: Evaluate, run: Path, images: Path, tmp_path: Path, found: dict[str, Any]) -> None:
    state = next((run / "checkpoints").glob("step_*/state.json"))
    reorder(state, ["class_2", "class_0", "class_1"])  # the model's outputs then mean other names
    turned = evaluated(renamed(images, tmp_path / "o", class_0="class_2", class_1="class_0", class_2="class_1"))
    assert turned.code == 0, turned.err
    assert "classes: the order is not the checkpoint's; labels are matched by name" in turned.err
    assert json.loads(turned.out)["eval_loss"] == pytest.approx(found["eval_loss"], rel=1e-5)
    reorder(state, ["class_0", "class_1", "class_2"])


def reorder(state: Path, names: list[str]) -> None:
    """Write other class names into a checkpoint, with a manifest that agrees."""
    from vit.files import file_sha256
    from vit.run.checkpoint import MANIFEST

    state.write_text(json.dumps({**json.loads(state.read_text()), "class_names": names}))
    manifest = json.loads((state.parent / MANIFEST).read_text())
    manifest["files"]["state.json"] = {"sha256": file_sha256(state), "bytes": state.stat().st_size}
    (state.parent / MANIFEST).write_text(json.dumps(manifest))


def _a_subset(evaluated: Evaluate, images: Path, tmp_path: Path, found: dict[str, Any]) -> None:
    part = renamed(images, tmp_path / "part", class_0="", class_1="class_1", class_2="class_2")
    refused = evaluated(part)
    assert refused.code == 2
    assert "has 2 of the 3 classes of" in refused.err
    assert '1 are absent: "class_0", add --classes subset' in refused.err
    accepted = evaluated(part, "--classes", "subset")
    assert accepted.code == 0, accepted.err
    assert "a subset, 2 of the checkpoint's 3; the model still chooses among all 3" in accepted.err
    subset = json.loads(accepted.out)
    assert (subset["model_classes"], subset["data_classes"], subset["eval_images"]) == (3, 2, 8)
    for name in ("class_1", "class_2"):
        assert subset["per_class"][name] == found["per_class"][name]
    assert subset["per_class"]["class_0"] == {"images": 0, "top1_percent": None}


def _unknown_names(evaluated: Evaluate, images: Path, tmp_path: Path) -> None:
    other = renamed(images, tmp_path / "other", class_0="class_0", class_1="cat", class_2="dog")
    refused = evaluated(other, "--classes", "subset")
    assert refused.code == 2
    assert "2 of its 3 classes are unknown to" in refused.err
    assert '"cat", "dog"; the checkpoint has 3: "class_0", "class_1", "class_2"' in refused.err
    for new, old in (("cat", "class_1"), ("dog", "class_2")):  # what the message advises
        (other / "val" / new).rename(other / "val" / old)
    assert evaluated(other).code == 0


def _flags_that_contradict(evaluated: Evaluate, images: Path) -> None:
    for flag, value, theirs in (("gelu", "tanh", "erf"), ("img_size", "24", "16"), ("model_type", "ViT-Ti_16", "tiny")):
        refused = evaluated(images, f"--{flag}", value)
        assert refused.code == 2
        assert f"vit.evaluate: --{flag}: is {value}, but " in refused.err
        assert f"was trained with {theirs}, set --{flag} {theirs}, or leave it out" in refused.err
        assert evaluated(images, f"--{flag}", theirs).code == 0
