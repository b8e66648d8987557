# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from mpikit.trainer import MEGA_PARAMETERS  # noqa: E402  # after the skip
from vit.model.transformer import create_model  # noqa: E402  # after the skip
from vit.variants import VARIANTS  # noqa: E402

MILLIONS = {
    "ViT-B_16": 86.859,
    "ViT-B_32": 88.297,
    "ViT-L_16": 304.716,
    "ViT-L_32": 306.633,
    "ViT-H_14": 632.651,
    "R50-ViT-B_16": 98.951,
}
TINY: dict[str, Any] = {"model_type": "tiny", "img_size": 32, "num_classes": 10}


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_parameters_with_a_1000_class_head_at_384_are_the_published_number(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 3) == millions


def test_the_kit_derives_its_grace_period_from_the_same_numbers() -> None:
    for name, millions in MEGA_PARAMETERS.items():
        with torch.device("meta"):
            model = create_model(name, 32 if name == "tiny" else 384)
        found = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        assert found == pytest.approx(millions, abs=0.1), name


def test_h_14_at_384_has_a_grid_of_27_and_leaves_6_pixels_unused() -> None:
    with torch.device("meta"):
        model = create_model("ViT-H_14")
        tokens = model.patch_embed(torch.empty(1, 3, 384, 384))
    assert (model.grid, tokens.shape[1], model.pos_embed.shape[1]) == ((27, 27), 729, 730)


def test_state_dict_keys_are_timms() -> None:
    keys = set(create_model("tiny", img_size=32, num_classes=10).state_dict())
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    pairs = [f"blocks.{i}.{name}" for i in range(2) for name in block] + ["patch_embed.proj", "norm", "head"]
    assert keys == {"cls_token", "pos_embed"} | {f"{name}.{part}" for name in pairs for part in ("weight", "bias")}


def test_a_fresh_model_knows_nothing() -> None:
    logits = create_model("tiny", img_size=32, num_classes=10)(torch.randn(2, 3, 32, 32))
    assert torch.equal(logits, torch.zeros(2, 10))


def test_explicit_attention_is_the_same_function_as_fused() -> None:
    fused = create_model("tiny", img_size=32, num_classes=10)
    torch.nn.init.normal_(fused.head.weight)
    explicit = create_model("tiny", img_size=32, num_classes=10, attention="explicit")
    explicit.load_state_dict(fused.state_dict())
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(explicit(images), fused(images), rtol=1e-5, atol=1e-5)


def test_initial_kernels_have_the_references_spread() -> None:
    model = create_model("ViT-B_16", img_size=32, num_classes=2)
    block = model.blocks[0]
    assert model.patch_embed.proj.weight.std().item() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.02)
    assert block.attn.qkv.weight.std().item() == pytest.approx((2 / (768 + 768)) ** 0.5, rel=0.02)
    assert block.mlp.fc1.weight.std().item() == pytest.approx((2 / (768 + 3072)) ** 0.5, rel=0.02)
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)


def test_dropout_is_the_references_unless_given() -> None:
    with torch.device("meta"):
        rates = {name: create_model(name).pos_drop.p for name in VARIANTS}
        given = create_model("ViT-L_16", dropout=0.0).pos_drop.p
    assert {name for name, rate in rates.items() if rate == 0.1} == {"ViT-L_16", "ViT-H_14", "R50-ViT-B_16"}
    assert given == 0.0


def test_images_need_not_be_square() -> None:
    model = create_model("tiny", img_size=(16, 48), num_classes=10)
    assert (model.grid, model.pos_embed.shape[1]) == ((2, 6), 13)
    assert model(torch.randn(2, 3, 16, 48)).shape == (2, 10)


def test_attention_maps_are_the_weights_of_every_layer_and_head() -> None:
    model, images = create_model(**TINY), torch.randn(3, 3, 32, 32)
    maps = model.attention_maps(images)
    assert maps.shape == (2, 3, 4, 17, 17)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 4, 17))
    tokens = model.blocks[0].norm1(model._embed(images))
    query, key, value = model.blocks[0].attn._split(tokens)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(maps[0] @ value, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_the_same_when_activations_are_computed_again() -> None:
    images, gradients = torch.randn(3, 3, 32, 32), []
    for again in (False, True):
        torch.manual_seed(0)
        model = create_model(**TINY, dropout=0.3, grad_checkpointing=again)
        torch.nn.init.normal_(model.head.weight)
        model(images).square().sum().backward()
        gradients.append(model.patch_embed.proj.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_multiply_accumulates_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("R50-ViT-B_16", "ViT-S_16"):
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            create_model(name, 250, 7, attention="explicit")(torch.empty(1, 3, 250, 250))
        assert counter.get_total_flops() == 2 * VARIANTS[name].forward_macs((250, 250), 7), name


def test_training_compute_at_384_is_the_published_one() -> None:
    billions = {name: 6 * VARIANTS[name].forward_macs((384, 384), 1000) / 1e9 for name in MILLIONS}
    expected = {"ViT-B_16": 332.9, "ViT-B_32": 78.3, "ViT-L_16": 1146, "ViT-L_32": 271.6, "ViT-H_14": 3021}
    assert {name: billions[name] for name in expected} == pytest.approx(expected, rel=1e-3)


def scaled_kernels(model: Any) -> None:
    """Kernels so large that an epsilon beside their deviation does not matter, as timm adds another one."""
    for name, parameter in model.named_parameters():
        if "backbone" in name and parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=100.0)
        elif parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
    torch.nn.init.normal_(model.head.weight, std=0.05)


@pytest.mark.parametrize("side", [224, 250])
def test_the_hybrid_is_timms_once_its_epsilons_are_the_references(side: int) -> None:
    timm = pytest.importorskip("timm", reason="vit tests need timm: pip install timm")
    torch.manual_seed(0)
    ours = create_model("R50-ViT-B_16", side, 10).eval()
    scaled_kernels(ours)
    theirs = timm.create_model("vit_base_r50_s16_224", img_size=side, num_classes=10, act_layer="gelu_tanh").eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 1e-6
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        images = torch.rand(1, 3, side, side) * 2 - 1
        expected, found = theirs(images), ours(images)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
