# SPDX-License-Identifier: Apache-2.0
"""The sizes of each model_type, and what follows from them. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Size = tuple[int, int]
"""(height, width) in pixels or in tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One row of the table of Vision Transformers."""

    width: int
    mlp_width: int
    num_heads: int
    num_layers: int
    patch: int
    """Side in pixels of what one token stands for."""
    dropout: float
    """Of the reference's own configuration (vit_jax/configs/models.py)."""
    img_size: int = 384
    """Default side of the image in pixels."""
    resnet: tuple[int, ...] = ()
    """Units of each ResNet stage below the transformer; the embedding is then 1 x 1 on its map."""

    def grid(self, size: Size) -> Size:
        """Rows and columns of tokens: whole patches only; the padded convolutions of a ResNet round up."""
        if self.resnet:
            return -(-size[0] // self.patch), -(-size[1] // self.patch)
        return size[0] // self.patch, size[1] // self.patch

    def forward_macs(self, size: Size, num_classes: int) -> int:
        """Multiply-accumulates of one image's forward pass: convolutions and matrix products."""
        rows, columns = self.grid(size)
        tokens, width = rows * columns + 1, self.width
        layer = tokens * width * (4 * width + 2 * self.mlp_width) + 2 * tokens**2 * width
        inputs = 4 * RESNET_WIDTH * 2 ** (len(self.resnet) - 1) if self.resnet else 3 * self.patch**2
        embedding = rows * columns * inputs * width
        return embedding + self.num_layers * layer + width * num_classes + sum(_resnet_macs(self.resnet, size))


RESNET_WIDTH = 64  # channels of the root, and of a bottleneck in the first stage


def _resnet_macs(stages: tuple[int, ...], size: Size) -> Iterator[int]:
    """Multiply-accumulates of each convolution, 7 x 7 root first."""
    if not stages:
        return
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    yield height * width * 7 * 7 * 3 * RESNET_WIDTH
    height, width, inputs = -(-height // 2), -(-width // 2), RESNET_WIDTH
    for stage, num_units in enumerate(stages):
        inner = RESNET_WIDTH * 2**stage
        for unit in range(num_units):
            before = height * width
            if stage and not unit:
                height, width = -(-height // 2), -(-width // 2)
            yield before * inputs * inner
            yield height * width * inner * (9 * inner + 4 * inner)
            if not unit:
                yield height * width * inputs * 4 * inner
            inputs = 4 * inner


VARIANTS: dict[str, Variant] = {
    "ViT-Ti_16": Variant(width=192, mlp_width=768, num_heads=3, num_layers=12, patch=16, dropout=0.0),
    "ViT-S_16": Variant(width=384, mlp_width=1536, num_heads=6, num_layers=12, patch=16, dropout=0.0),
    "ViT-B_16": Variant(width=768, mlp_width=3072, num_heads=12, num_layers=12, patch=16, dropout=0.0),
    "ViT-B_32": Variant(width=768, mlp_width=3072, num_heads=12, num_layers=12, patch=32, dropout=0.0),
    "ViT-L_16": Variant(width=1024, mlp_width=4096, num_heads=16, num_layers=24, patch=16, dropout=0.1),
    "ViT-L_32": Variant(width=1024, mlp_width=4096, num_heads=16, num_layers=24, patch=32, dropout=0.0),
    "ViT-H_14": Variant(width=1280, mlp_width=5120, num_heads=16, num_layers=32, patch=14, dropout=0.1),
    "R50-ViT-B_16": Variant(
        width=768, mlp_width=3072, num_heads=12, num_layers=12, patch=16, dropout=0.1, resnet=(3, 4, 9)
    ),
    "tiny": Variant(width=64, mlp_width=128, num_heads=4, num_layers=2, patch=8, dropout=0.0, img_size=32),
}


AttentionKind = Literal["fused", "explicit"]


GeluKind = Literal["tanh", "erf"]
