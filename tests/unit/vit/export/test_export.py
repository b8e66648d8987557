# SPDX-License-Identifier: Apache-2.0
"""Each format is loaded by the library that it is for, and that library's logits are ours on real images."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip
from PIL import Image  # noqa: E402

from tests.support.photographs import write_photographs  # noqa: E402
from tests.support.trained import CLASSES, write_run  # noqa: E402
from tests.unit.vit.weights.test_load import reference_logits  # noqa: E402
from vit.data.batches import open_eval  # noqa: E402
from vit.data.datasets import FileSource  # noqa: E402
from vit.export.__main__ import main  # noqa: E402
from vit.export.trained import Trained, open_trained  # noqa: E402
from vit.model import create_model  # noqa: E402
from vit.training.evaluation import normalise  # noqa: E402
from vit.variants import VARIANTS  # noqa: E402
from vit.weights import load_npz, load_weights  # noqa: E402

NUM_PHOTOS = 50
RUNS: dict[str, dict[str, Any]] = {
    "tiny": {"model_type": "tiny", "img_size": 32},
    "other": {  # than every default
        "model_type": "ViT-Ti_16",
        "img_size": 64,
        "gelu": "erf",
        "eval_resize": "crop",
        "crop_pct": 0.8,
        "mean": "imagenet",
        "std": "imagenet",
        "interpolation": "bicubic",
        "ema_decay": 0.9,
    },
    "base": {"model_type": "ViT-B_16", "img_size": 64},
    "hybrid": {"model_type": "R50-ViT-B_16", "img_size": 64},
}
Export = Callable[[str, str], tuple[Trained, Path]]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of every kind, from 1 x 1 to 2400 x 1601 pixels."""
    return [path for _, path in itertools.islice(write_photographs(tmp_path_factory.mktemp("photos")), 0, 240, 4)][
        :NUM_PHOTOS
    ]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    """Export a run of RUNS, each written once. B_16 and the hybrid have 2 of their 12 equal blocks here."""
    root = tmp_path_factory.mktemp("runs")
    trained: dict[str, Trained] = {}

    def do(name: str, to: str) -> tuple[Trained, Path]:
        if name not in trained:
            trained[name] = open_trained(str(write_run(root, name=name, **RUNS[name])))
        target = root / f"{name}-{to}"
        if not target.exists():
            assert main([str(root / name), "--to", to, "--out", str(target)]) == 0
        return trained[name], target

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ViT-B_16", "R50-ViT-B_16"):
            patch.setitem(VARIANTS, name, dataclasses.replace(VARIANTS[name], num_layers=2))
        yield do
    shutil.rmtree(root)


def model_input(trained: Trained, files: list[Path]) -> Any:
    """What vit.evaluate gives the model."""
    batches = open_eval(trained.config, FileSource(files, trained.class_names))
    return normalise(batches.batch([(0, number) for number in range(len(files))]).images, trained.config.scaling)


def assert_same(found: Any, trained: Trained, images: Any) -> None:
    share = 5e-4 if trained.config.variant.resnet else 1e-4  # a ResNet of random weights doubles each difference
    with torch.no_grad():
        expected = trained.model(images)
    assert expected.std() > 0.1  # random weights, yet not all images look alike
    torch.testing.assert_close(torch.as_tensor(found), expected, rtol=0, atol=share * expected.abs().max().item())


def assert_epsilons(model: Any) -> None:
    """A wrong one is too small to show in logits, but bfloat16 and other weights would show it."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}


@pytest.mark.parametrize("name", ["tiny", "other", "base"])
def test_timm_computes_the_same_logits(
    name: str, export: Export, photographs: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    timm = pytest.importorskip("timm", reason="vit tests need timm: pip install timm")
    trained, folder = export(name, "timm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert list(model.pretrained_cfg["label_names"]) == CLASSES
    assert_epsilons(model)
    images = model_input(trained, photographs)
    with torch.no_grad():
        assert_same(model(images), trained, images)


@pytest.mark.parametrize("name", ["tiny", "other", "base"])
def test_transformers_computes_the_same_logits(
    name: str, export: Export, photographs: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers", reason="vit tests need transformers: pip install transformers")
    trained, folder = export(name, "hf")
    capfd.readouterr()
    transformers.logging.disable_progress_bar()
    model, loading = transformers.ViTForImageClassification.from_pretrained(str(folder), output_loading_info=True)
    assert {key for key, found in loading.items() if found} == set()
    assert capfd.readouterr().err == ""
    assert [model.config.id2label[number] for number in range(len(CLASSES))] == CLASSES
    assert_epsilons(model)
    images = model_input(trained, photographs)
    with torch.no_grad():
        assert_same(model.eval()(images).logits, trained, images)


def test_transformers_loads_timms_folder_too(export: Export, photographs: list[Path]) -> None:
    transformers = pytest.importorskip("transformers", reason="vit tests need transformers: pip install transformers")
    pytest.importorskip("timm", reason="vit tests need timm: pip install timm")
    trained, folder = export("other", "timm")
    model = transformers.AutoModelForImageClassification.from_pretrained(str(folder)).eval()
    images = model_input(trained, photographs)
    with torch.no_grad():
        assert_same(model(images).logits, trained, images)


@pytest.mark.parametrize("name", ["tiny", "other"])
def test_the_libraries_make_the_same_input_of_a_photograph(name: str, export: Export, photographs: list[Path]) -> None:
    """To within two levels of 255: each has its own resize."""
    timm = pytest.importorskip("timm.data", reason="vit tests need timm: pip install timm")
    transformers = pytest.importorskip("transformers", reason="vit tests need transformers: pip install transformers")
    trained, folder = export(name, "timm")
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    transform = timm.create_transform(**timm.resolve_data_config(config))
    processor = transformers.AutoImageProcessor.from_pretrained(str(export(name, "hf")[1]))
    most = 2.5 / 255 / min(trained.config.scaling.std)
    num_compared = 0
    for path in photographs:
        with Image.open(path) as file:
            picture, turned = file.convert("RGB"), "turned" in path.name
        if turned or min(picture.size) < 30:
            continue
        expected = model_input(trained, [path])[0]
        assert (transform(picture) - expected).abs().max() < most, path.name
        if name == "other" and margin(picture.size, 80, 64) % 2:
            continue  # transformers rounds the start of its crop down, the trainer and timm to the nearest
        found = processor(picture, return_tensors="pt")["pixel_values"][0]
        assert (found - expected).abs().max() < most, path.name
        num_compared += 1
    assert num_compared > 10


def margin(size: tuple[int, int], short: int, side: int) -> int:
    """Pixels beside the centre crop of the longer side."""
    return int(short * max(size) / min(size)) - side


@pytest.mark.parametrize("name", ["tiny", "other", "base", "hybrid"])
def test_onnx_runtime_computes_the_same_logits_for_any_batch(
    name: str, export: Export, photographs: list[Path]
) -> None:
    if torch.__version__ < (2, 6):
        pytest.skip("torch's exporter takes a batch of any size from 2.6 on")
    pytest.importorskip("onnxscript", reason="vit tests need onnxscript: pip install onnx onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="vit tests need onnxruntime: pip install onnxruntime")
    trained, folder = export(name, "onnx")
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    images = model_input(trained, photographs)
    for count in (1, 2, NUM_PHOTOS):
        (found,) = session.run(None, {"images": images[:count].numpy()})
        assert_same(found, trained, images[:count])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == CLASSES
    assert json.loads(facts["mean"]) == pytest.approx(trained.config.scaling.mean)


def test_the_npz_is_the_function_of_googles_layout(export: Export, photographs: list[Path]) -> None:
    trained, folder = export("tiny", "npz")
    images = model_input(trained, photographs)
    with np.load(folder / "tiny.npz") as file:
        assert_same(reference_logits(dict(file), images.permute(0, 2, 3, 1).numpy()).astype("f4"), trained, images)


@pytest.mark.parametrize(("name", "file"), [("base", "ViT-B_16.npz"), ("hybrid", "R50+ViT-B_16.npz")])
def test_the_npz_has_googles_file_name_and_gives_the_weights_back(name: str, file: str, export: Export) -> None:
    trained, folder = export(name, "npz")
    model = create_model(trained.config.model_name, 64, len(CLASSES))
    assert load_npz(model, folder / file) == []
    same = zip(model.state_dict().items(), trained.model.state_dict().values(), strict=True)
    assert [key for (key, found), expected in same if not torch.equal(found, expected)] == []
    assert json.loads((folder / "classes.json").read_text()) == CLASSES


def test_timm_reads_the_npz_as_it_reads_googles_own(export: Export, photographs: list[Path]) -> None:
    timm = pytest.importorskip("timm", reason="vit tests need timm: pip install timm")
    trained, folder = export("base", "npz")
    size = {"img_size": 64, "num_classes": len(CLASSES), "act_layer": "gelu_tanh", "depth": 2}
    model = timm.create_model("vit_base_patch16_224", **size).eval()
    model.load_pretrained(str(folder / "ViT-B_16.npz"))
    images = model_input(trained, photographs)
    with torch.no_grad():
        assert_same(model(images), trained, images)


@pytest.mark.parametrize("to", ["timm", "hf"])
def test_the_trainer_reads_its_own_exports(to: str, export: Export) -> None:
    trained, folder = export("other", to)
    model = create_model("ViT-Ti_16", 64, len(CLASSES), gelu="erf")
    assert load_weights(model, folder) == []
    torch.testing.assert_close(model.state_dict(), trained.model.state_dict(), rtol=0, atol=0)


def test_an_average_is_what_is_exported(export: Export) -> None:
    trained, _ = export("other", "timm")
    assert trained.own.file.name == "ema.pt"


@pytest.mark.parametrize(
    ("run", "to", "reason"),
    [
        ("hybrid", "timm", "GroupNorm adds 1e-6 to the variance, and timm's adds 1e-5"),
        ("hybrid", "hf", "no hybrid Vision Transformer"),
        ("other", "npz", "computes GELU with erf"),
    ],
)
def test_what_cannot_be_exact_is_refused_with_the_reason(
    run: str, to: str, reason: str, export: Export, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="vit tests need onnxscript: pip install onnx onnxscript")
    place = export(run, "onnx")[0].own.path
    assert main([str(place), "--to", to, "--out", str(tmp_path / "out")]) == 2
    err = capfd.readouterr().err
    assert reason in err
    assert "use --to" in err
    assert list(tmp_path.iterdir()) == []
