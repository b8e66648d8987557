# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from tests.support.running import FLAGS, Result, finish, start_module  # noqa: E402
from vit.config import Config, parse_args  # noqa: E402
from vit.data.batches import scaled  # noqa: E402
from vit.errors import ConfigError  # noqa: E402
from vit.images.preprocessing import settle  # noqa: E402
from vit.model.transformer import create_model  # noqa: E402
from vit.scaling import INCEPTION, NAMED, Scaling  # noqa: E402
from vit.training.evaluation import normalise  # noqa: E402
from vit.weights.load import save_npz  # noqa: E402

IMAGENET = Scaling(*NAMED["imagenet"])
TIMM = {"architecture": "vit", "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
HF = {"image_mean": [0.481, 0.457, 0.408], "image_std": [0.268, 0.261, 0.275], "resample": 3, "do_normalize": True}


def test_pixels_are_normalised_channel_by_channel_and_inception_as_ever() -> None:
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    shares = images.double().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).double()[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
    assert torch.allclose(normalise(images, IMAGENET).double(), (shares - mean) / std, atol=1e-5)
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    assert torch.equal(normalise(images, INCEPTION), (planes - 127.5) / 127.5)
    alone = scaled(images.numpy(), IMAGENET).transpose(0, 3, 1, 2)
    assert np.allclose(alone, normalise(images, IMAGENET).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("file", "content", "wanted", "origin"),
    [
        ("config.json", TIMM, ("0.485,0.456,0.406", "0.229,0.224,0.225", "bilinear"), "config.json"),
        ("config.json", TIMM["pretrained_cfg"], ("0.485,0.456,0.406", "0.229,0.224,0.225", "bilinear"), "config.json"),
        ("preprocessor_config.json", HF, ("0.481,0.457,0.408", "0.268,0.261,0.275", "bicubic"), "preprocessor_config"),
        ("preprocessor_config.json", {"do_normalize": False}, ("0,0,0", "1,1,1", "bilinear"), "preprocessor_config"),
        ("config.json", {"hidden_size": 768}, ("0.5,0.5,0.5", "0.5,0.5,0.5", "bilinear"), "the default"),
        ("config.json", {"mean": ["a"], "std": 3}, ("0.5,0.5,0.5", "0.5,0.5,0.5", "bilinear"), "the default"),
        ("config.json", [1], ("0.5,0.5,0.5", "0.5,0.5,0.5", "bilinear"), "cannot be read as JSON"),
    ],
)
def test_a_file_beside_the_weights_says_it_and_the_line_says_where_from(
    tmp_path: Path, file: str, content: object, wanted: tuple[str, str, str], origin: str
) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    config = Config(pretrained_dir=str(tmp_path / "w.pt"))
    found, notes = settle(config, None, evaluating=True)
    assert (found.mean, found.std, found.interpolation, found.resize) == (*wanted, "antialias")
    assert any(origin in note for note in notes)
    assert ("the default" in origin or "JSON" in origin) == any("--mean imagenet" in note for note in notes)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 10_000, b"null", b'{"pretrained_cfg": 3}'])
def test_damaged_files_beside_the_weights_are_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    found, _ = settle(Config(pretrained_dir=str(tmp_path / "w.pt")), None, evaluating=True)
    assert found.mean == "0.5,0.5,0.5"


def test_flags_win_over_the_checkpoint_and_that_over_files_and_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    given: dict[str, Any] = {"pretrained_dir": str(tmp_path / "w.pt")}
    saved = {"mean": "0.1,0.2,0.3", "std": None, "interpolation": "lanczos", "resize": "antialias"}
    found, notes = settle(Config(**given, interpolation="bicubic"), saved, evaluating=True)
    assert (found.mean, found.std, found.interpolation) == ("0.1,0.2,0.3", "0.5,0.5,0.5", "bicubic")
    assert "(the checkpoint)" in notes[0]
    assert "(--interpolation)" in notes[0]


@pytest.mark.parametrize(
    ("path", "evaluating", "flags", "wanted"),
    [
        ("w.npz", True, {}, "reference"),
        ("w.npz", False, {}, "antialias"),
        ("w.npz", True, {"resize": "antialias"}, "antialias"),
        ("w.npz", True, {"interpolation": "bicubic"}, "antialias"),
        ("w.npz", True, {"eval_resize": "crop"}, "antialias"),
        ("w.pt", True, {}, "antialias"),
        ("w.pt", False, {"resize": "reference"}, "reference"),
        (".", True, {}, "reference"),
    ],
)
def test_the_evaluation_of_googles_file_resizes_as_google_does(
    tmp_path: Path, path: str, evaluating: bool, flags: dict[str, Any], wanted: str
) -> None:
    (tmp_path / "ViT-B_16.npz").touch()
    found, notes = settle(Config(pretrained_dir=str(tmp_path / path), **flags), None, evaluating=evaluating)
    assert found.resize == wanted
    assert ("not antialiased, as tf.image.resize" in notes[0]) == (wanted == "reference")


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--mean", "0.5"),
        ("--mean", "123,116,103"),
        ("--std", "0,0.5,0.5"),
        ("--std", "a,b,c"),
        ("--mean", "1,0,-1"),
    ],
)
def test_numbers_on_another_scale_are_refused_with_an_example(flag: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"such as {flag} 0.485"):
        parse_args([flag, text])


def test_reference_goes_with_bilinear_only() -> None:
    with pytest.raises(ConfigError, match="reference resizes bilinear only"):
        parse_args(["--resize", "reference", "--interpolation", "bicubic"])


def test_a_run_keeps_its_preprocessing_and_its_evaluation_takes_it_from_there(
    here: Callable[..., Result], images: Path, tmp_path: Path
) -> None:
    flags = ("--mean", "imagenet", "--std", "imagenet", "--resize", "reference", "--num_steps", "4")
    done = here(*flags, "--reprob", "0.5")
    assert done.code == 0, done.err
    state = json.loads((tmp_path / "run/checkpoints/step_00000004/state.json").read_text())
    kept = {name: state["config"][name] for name in ("mean", "std", "interpolation", "resize")}
    assert kept == {"mean": "imagenet", "std": "imagenet", "interpolation": "bilinear", "resize": "reference"}
    common = ("--dataset", "imagefolder", "--data_path", str(images), "--device", "cpu", "--num_workers", "0")
    common = (*common, "--model_type", "tiny", "--img_size", "16", "--pretrained_dir", str(tmp_path / "run"))
    taken, other = (
        finish(start_module("vit.evaluate", 1, *common, *more))[0] for more in ((), ("--mean", "inception"))
    )
    assert taken.code == other.code == 0, taken.err
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert json.loads(taken.out)["eval_loss"] == pytest.approx(rows[-1]["eval_loss"], rel=1e-5)
    assert json.loads(other.out)["eval_loss"] != pytest.approx(rows[-1]["eval_loss"], rel=1e-3)
    assert "not antialiased, as tf.image.resize (the checkpoint)" in taken.err


def test_a_resume_takes_the_checkpoints_preprocessing_and_refuses_another(
    here: Callable[..., Result], tmp_path: Path
) -> None:
    assert here("--mean", "imagenet", "--num_steps", "4", "--eval_every", "2", "--resize", "reference").code == 0
    told = here("--num_steps", "4", "--eval_every", "2")
    assert (told.code, "is complete" in told.err + told.out) == (0, True)
    other = here("--num_steps", "4", "--eval_every", "2", "--mean", "inception")
    assert other.code == 2
    assert "mean is 0.5,0.5,0.5 but was 0.485,0.456,0.406" in other.err


def test_a_checkpoint_made_before_these_flags_goes_on(here: Callable[..., Result], tmp_path: Path) -> None:
    assert here("--num_steps", "4").code == 0
    folder = tmp_path / "run/checkpoints/step_00000004"
    state = json.loads((folder / "state.json").read_text())
    for name in ("mean", "std", "interpolation", "resize"):
        del state["config"][name], state["identity"][name]
    (folder / "state.json").write_text(json.dumps(state))
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    from vit.files import file_sha256

    size = (folder / "state.json").stat().st_size
    manifest["files"]["state.json"] = {"sha256": file_sha256(folder / "state.json"), "bytes": size}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    done = here("--num_steps", "4")
    assert (done.code, "is complete" in done.err + done.out) == (0, True)


def test_google_s_npz_is_evaluated_without_antialiasing_and_says_so(images: Path, tmp_path: Path) -> None:
    save_npz(create_model("tiny", img_size=16, num_classes=3), tmp_path / "w.npz")
    words = (*FLAGS[:10], "--data_path", str(images), "--pretrained_dir", str(tmp_path / "w.npz"))
    done = finish(start_module("vit.evaluate", 1, *words))[0]
    assert done.code == 0, done.err
    assert "not antialiased, as tf.image.resize (the default for the evaluation of Google's .npz)" in done.err
