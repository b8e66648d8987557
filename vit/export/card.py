# SPDX-License-Identifier: Apache-2.0
"""README.md of an export: a model card with what the weights are, how well they do, and how to load them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vit.export.trained import Trained
from vit.runtime.console import visible
from vit.scaling import written

TITLES = {"timm": "timm", "hf": "Hugging Face", "onnx": "ONNX", "npz": "Google's .npz"}
LIBRARIES = {"timm": "timm", "hf": "transformers", "onnx": "onnx"}
"""library_name of the hub, by format."""
DATASETS = {
    "imagenet1K": "ILSVRC/imagenet-1k",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
}
"""Names of the hub, by dataset; an image folder has none."""
NOT_RECIPE = ("model_type", "gelu", "img_size", "dataset", "num_classes", "classes_crc", "train_images")
"""Settings of a run that stand elsewhere in the card."""
MOST_NAMES = 20  # of classes that the card lists
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


def card(trained: Trained, to: str, license_name: str | None) -> str:
    """Return the text of README.md."""
    sections = (
        _front_matter(trained, to, license_name),
        _introduction(trained, to),
        ["## Use", "", *_use(trained, to)],
        ["## Accuracy", "", *_accuracy(trained)],
        ["## Data", "", *_data(trained)],
        ["## Preprocessing", "", *_preprocessing(trained, to)],
        ["## Recipe", "", *_recipe(trained)],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _front_matter(trained: Trained, to: str, license_name: str | None) -> Iterator[str]:
    yield "---"
    yield "tags: [image-classification, vision-transformer]"
    yield "pipeline_tag: image-classification"
    if to in LIBRARIES:
        yield f"library_name: {LIBRARIES[to]}"
    if license_name:
        yield f"license: {license_name}"
    if trained.config.dataset in DATASETS:
        yield f"datasets: [{DATASETS[trained.config.dataset]}]"
    yield "---"


def _introduction(trained: Trained, to: str) -> Iterator[str]:
    config, millions = trained.config, sum(p.numel() for p in trained.model.parameters()) / 1e6
    yield f"# {_plain(trained.name)}"
    yield ""
    yield (
        f"{config.model_name}, a Vision Transformer ([arXiv:2010.11929](https://arxiv.org/abs/2010.11929)) with "
        f"{millions:,.1f} million parameters for {len(trained.class_names):,} classes, in the format of "
        f"{TITLES[to]}. Images are {config.image_size} x {config.image_size} pixels; GELU is its "
        f"{config.gelu_form} form; the class token is classified. The weights are those of step "
        f"{trained.state['step']:,}{', an average over the steps' if trained.own.file.name == 'ema.pt' else ''}."
    )


def _use(trained: Trained, to: str) -> Iterator[str]:
    lines = {
        "timm": ("import timm", 'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()'),
        "hf": (
            "from transformers import AutoImageProcessor, ViTForImageClassification",
            'processor = AutoImageProcessor.from_pretrained("FOLDER")',
            'model = ViTForImageClassification.from_pretrained("FOLDER").eval()',
        ),
        "onnx": (
            "import onnxruntime",
            'session = onnxruntime.InferenceSession("FOLDER/model.onnx")',
            'logits = session.run(["logits"], {"images": images})[0]  # images: (batch, 3, S, S), float32, normalised',
        ),
        "npz": (
            "from vit.model import create_model",
            "from vit.weights import load_npz",
            f'model = create_model("{trained.config.model_name}", {trained.config.image_size}, '
            f"{len(trained.class_names)})",
            f'load_npz(model, "FOLDER/{trained.npz_name}")',
        ),
    }
    yield from ("```python", *lines[to], "```")


def _accuracy(trained: Trained) -> Iterator[str]:
    found = trained.evaluation()
    if not found:
        yield "These weights were not evaluated on their own; the run's metrics are of other steps."
        return
    yield from ("| metric | value |", "|---|---|")
    words = {"top1_percent": "top-1", "top5_percent": "top-5"}
    for key, title in words.items():
        if found.get(key) is not None:
            yield f"| {title} | {found[key]:.2f} % |"
    if found.get("eval_loss") is not None:
        yield f"| loss | {found['eval_loss']:.4f} |"
    if found.get("eval_images") is not None:
        yield f"| validation images | {found['eval_images']:,} |"


def _data(trained: Trained) -> Iterator[str]:
    facts, names = trained.run_facts(), trained.class_names
    count = trained.state.get("identity", {}).get("train_images")
    counts = [f"{count:,} training images"] if count else []
    counts += [f"{facts['val_images']:,} validation images"] if facts.get("val_images") else []
    kind = {"imagefolder": "an image folder", "synthetic": "invented noise"}.get(
        trained.config.dataset, trained.config.dataset
    )
    yield f"Trained on {kind}{': ' if counts else ''}{', '.join(counts)}."
    shown = ", ".join(_code(name) for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    yield f"Classes, in the order of the outputs: {shown}{more}."


def _preprocessing(trained: Trained, to: str) -> Iterator[str]:
    config, side = trained.config, trained.config.image_size
    how = f"resized to {side} x {side}, aspect not kept"
    if config.eval_resize == "crop":
        how = f"resized so that {config.crop_pct:g} of the shorter side is {side}, then the centre of {side} x {side}"
    scaling = config.scaling
    yield (
        f"RGB, {how}, {config.interpolation} filter; pixels / 255, minus {written(scaling.mean)}, "
        f"divided by {written(scaling.std)}."
    )
    if to == "hf" and config.eval_resize == "crop":
        yield "transformers rounds the start of the crop down, so its crop may begin one pixel earlier."
    if trained.resized_otherwise:
        yield "The run resized without antialiasing, as tf.image.resize; other libraries differ in a few pixels."


def _recipe(trained: Trained) -> Iterator[str]:
    settings: Mapping[str, Any] = trained.state.get("identity", {})
    yield from ("| setting | value |", "|---|---|")
    for name, value in settings.items():
        if name not in NOT_RECIPE and value is not None:
            yield f"| {name} | {_plain(str(value))} |"


def _plain(text: str) -> str:
    """Return a text that comes from a run so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|&!])", r"\\\1", _line(text))


def _code(text: str) -> str:
    """Return a name as code; a grave accent would end it."""
    return f"`{_line(text).replace('`', chr(39))}`"


def _line(text: str) -> str:
    """Return a text as one line that a reader can see."""
    return visible(text).replace("\n", " ")
