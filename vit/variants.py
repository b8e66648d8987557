"""The sizes of each model_type. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One row of the table of Vision Transformers."""

    width: int
    mlp_width: int
    num_heads: int
    num_layers: int
    patch: int
    dropout: float
    """Of the reference's own configuration (vit_jax/configs/models.py)."""
    img_size: int = 384
    """Default side of the image in pixels."""


VARIANTS: dict[str, Variant] = {
    "ViT-B_16": Variant(width=768, mlp_width=3072, num_heads=12, num_layers=12, patch=16, dropout=0.0),
    "ViT-B_32": Variant(width=768, mlp_width=3072, num_heads=12, num_layers=12, patch=32, dropout=0.0),
    "ViT-L_16": Variant(width=1024, mlp_width=4096, num_heads=16, num_layers=24, patch=16, dropout=0.1),
    "ViT-L_32": Variant(width=1024, mlp_width=4096, num_heads=16, num_layers=24, patch=32, dropout=0.0),
    "ViT-H_14": Variant(width=1280, mlp_width=5120, num_heads=16, num_layers=32, patch=14, dropout=0.1),
    "tiny": Variant(width=64, mlp_width=128, num_heads=4, num_layers=2, patch=8, dropout=0.0, img_size=32),
}
