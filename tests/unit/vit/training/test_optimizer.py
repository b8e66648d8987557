# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from itertools import pairwise

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.config import Config  # after the skip
from vit.model.transformer import create_model
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks
from vit.training.optimizer import create_optimizer, learning_rate, parameter_groups, set_learning_rate

COSINE = Config(num_steps=100, warmup_steps=20, learning_rate=0.4)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (1, 0.02), (10, 0.2), (20, 0.4), (40, 0.2 * (1 + math.sqrt(0.5))), (60, 0.2), (100, 0.0), (150, 0.0)],
)
def test_cosine_by_hand(step: int, expected: float) -> None:
    assert learning_rate(step, COSINE) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (10, 0.2), (20, 0.4), (60, 0.200005), (100, 1e-5)])
def test_linear_by_hand(step: int, expected: float) -> None:
    linear = Config(num_steps=100, warmup_steps=20, learning_rate=0.4, decay_type="linear")
    assert learning_rate(step, linear) == pytest.approx(expected, abs=1e-12)


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert learning_rate(0, Config(num_steps=10, warmup_steps=0, learning_rate=0.4)) == 0.4


def test_biases_norms_and_embeddings_do_not_decay() -> None:
    model = create_model("tiny", img_size=32, num_classes=10)
    optimizer = create_optimizer(model, Config(optimizer="adamw", weight_decay=0.1), Device(Ranks()))
    decaying = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decaying}
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    blocks = {f"blocks.{index}.{layer}.weight" for index in range(2) for layer in layers}
    assert names == blocks | {"patch_embed.proj.weight", "head.weight"}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def reference_rate(step: int, decay_type: str) -> float:
    """vit_jax/utils.py create_learning_rate_schedule for 20,000 steps, base 0.03, 500 warm-up steps, in float64."""
    progress = min(max((step - 500) / (20_000 - 500), 0.0), 1.0)
    if decay_type == "linear":
        rate = 1e-5 + (0.03 - 1e-5) * (1.0 - progress)
    else:
        rate = 0.03 * 0.5 * (1.0 + math.cos(math.pi * progress))
    return rate * min(1.0, step / 500)


@pytest.mark.parametrize("decay_type", ["cosine", "linear"])
def test_the_schedule_is_the_references_at_every_step_and_stays_at_its_end(decay_type: str) -> None:
    config = Config(num_steps=20_000, warmup_steps=500, learning_rate=0.03, decay_type=decay_type)  # type: ignore[arg-type]
    rates = [learning_rate(step, config) for step in range(25_000)]
    assert max(abs(rate - reference_rate(step, decay_type)) for step, rate in enumerate(rates)) < 1e-7
    assert set(rates[20_000:]) == {0.0 if decay_type == "cosine" else 1e-5}
    assert all(later <= rate for rate, later in pairwise(rates[500:]))


def test_a_linear_schedule_below_the_references_end_does_not_rise() -> None:
    config = Config(num_steps=100, warmup_steps=0, learning_rate=1e-6, decay_type="linear")
    assert {learning_rate(step, config) for step in range(200)} == {1e-6}


def test_layer_decay_gives_each_parameter_the_rate_that_timm_gives_it() -> None:
    optim = pytest.importorskip("timm.optim", reason="vit tests need timm: pip install timm")
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    expected = {
        id(parameter): (group["lr_scale"], group["weight_decay"])
        for group in optim.param_groups_layer_decay(
            model, weight_decay=0.1, layer_decay=0.65, no_weight_decay_list=model.no_weight_decay()
        )
        for parameter in group["params"]
    }
    for group in parameter_groups(model, Config(weight_decay=0.1, layer_decay=0.65)):
        for parameter in group["params"]:
            assert (group["rate_scale"], group["weight_decay"]) == pytest.approx(expected.pop(id(parameter)))
    assert not expected


def test_the_scheduled_rate_is_multiplied_by_each_groups_scale() -> None:
    model = create_model("tiny", img_size=32, num_classes=10)
    optimizer = create_optimizer(model, Config(layer_decay=0.5), Device(Ranks()))
    set_learning_rate(optimizer, 0.8)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.1, 0.2, 0.4, 0.8])
