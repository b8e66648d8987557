from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.config import Config  # after the skip
from vit.device import Device
from vit.model import create_model
from vit.optim import create_optimizer, learning_rate
from vit.ranks import Ranks

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
