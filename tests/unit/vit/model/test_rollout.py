# SPDX-License-Identifier: Apache-2.0
"""Attention rollout against the published notebook, written here again in numpy; it shares nothing with vit."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from vit.model.rollout import rollout  # noqa: E402
from vit.model.transformer import create_model  # noqa: E402


def notebook(attention: Any) -> list[Any]:
    """The masks of all layers for the maps (L, H, N, N) of one image: visualize_attention_map.ipynb, in float64."""
    matrices = attention.astype(np.float64).mean(axis=1)
    augmented = matrices + np.eye(matrices.shape[1])
    augmented = augmented / augmented.sum(axis=-1)[..., None]
    joint = np.zeros_like(augmented)
    joint[0] = augmented[0]
    for n in range(1, len(augmented)):
        joint[n] = np.matmul(augmented[n], joint[n - 1])
    side = math.isqrt(joint.shape[-1] - 1)
    return [v[0, 1:].reshape(side, side) / v[0, 1:].max() for v in joint]


@pytest.mark.parametrize(
    ("model_type", "side"), [("tiny", 32), ("ViT-Ti_16", 80), ("R50-ViT-B_16", 32)], ids=["tiny", "Ti_16", "hybrid"]
)
def test_the_maps_are_those_of_the_published_notebook(model_type: str, side: int) -> None:
    torch.manual_seed(0)
    model = create_model(model_type, side, 5).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.2)  # fresh ones look everywhere alike
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        maps = model.attention_maps(images)
        found = rollout(model.layer_maps(images), model.grid)
    assert found.shape == (len(model.blocks), 3, *model.grid)
    for number in range(3):
        expected = notebook(maps[:, number].numpy())
        assert min(mask.min() for mask in expected) < 0.9
        np.testing.assert_allclose(found[:, number].numpy(), expected, rtol=0, atol=1e-6)


def test_a_wide_image_has_a_wide_map() -> None:
    model = create_model("tiny", (16, 48), 5).eval()
    with torch.no_grad():
        assert rollout(model.layer_maps(torch.randn(1, 3, 16, 48)), model.grid).shape == (2, 1, 2, 6)


def test_each_token_is_found_where_it_lies() -> None:
    """All look at one token: the map is 1 there."""
    weights = torch.zeros(1, 2, 7, 7)
    weights[..., 5] = 1
    found = rollout([weights, weights], (2, 3))
    assert found[-1, 0].argmax().item() == 4
    assert found[-1, 0, 1, 1].item() == 1
    assert found[-1, 0].sum().item() == 1
