from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from mpikit.parts import MEGA_PARAMETERS  # noqa: E402  # after the skip
from vit.model import create_model  # noqa: E402  # after the skip
from vit.variants import VARIANTS  # noqa: E402

MILLIONS = {"ViT-B_16": 86.859, "ViT-B_32": 88.297, "ViT-L_16": 304.716, "ViT-L_32": 306.633, "ViT-H_14": 632.651}


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
    assert (model.grid, tokens.shape[1], model.pos_embed.shape[1]) == (27, 729, 730)


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
    assert {name for name, rate in rates.items() if rate == 0.1} == {"ViT-L_16", "ViT-H_14"}
    assert given == 0.0
