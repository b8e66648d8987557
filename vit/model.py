"""The Vision Transformer (arXiv:2010.11929) with timm's state-dict keys and the numerics of Google's flax code.

Shapes: B images, N tokens (class token first), D width, H heads, d = D / H, P patch side.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit.variants import VARIANTS, Variant

AttentionKind = Literal["fused", "explicit"]

LAYER_NORM_EPS = 1e-6  # flax's default; PyTorch's is 1e-5
LECUN_TRUNCATION = 0.87962566103423978  # standard deviation of a unit normal cut at +-2 (jax.nn.initializers)


def create_model(
    model_type: str,
    img_size: int = 384,
    num_classes: int = 1000,
    *,
    dropout: float | None = None,
    attention: AttentionKind = "fused",
) -> VisionTransformer:
    """A freshly initialised model; `dropout` defaults to the reference's rate of the variant."""
    return VisionTransformer(VARIANTS[model_type], img_size, num_classes, dropout=dropout, attention=attention)


class VisionTransformer(nn.Module):
    """Images (B, 3, S, S), normalised -> logits (B, num_classes)."""

    def __init__(
        self,
        variant: Variant,
        img_size: int,
        num_classes: int,
        *,
        dropout: float | None = None,
        attention: AttentionKind = "fused",
    ) -> None:
        super().__init__()
        width, rate = variant.width, variant.dropout if dropout is None else dropout
        self.num_heads, self.num_classes = variant.num_heads, num_classes
        self.grid = img_size // variant.patch  # pixels beyond the last whole patch are not used, as in flax
        self.patch_embed = PatchEmbed(variant.patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, width))
        self.pos_drop = nn.Dropout(rate)
        self.blocks = nn.ModuleList(Block(variant, rate, attention) for _ in range(variant.num_layers))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(width, num_classes)
        self._init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> logits (B, C)."""
        tokens = self.patch_embed(images)
        tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)  # (B, N, D)
        tokens = self.pos_drop(tokens + self.pos_embed)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits

    def _init_weights(self) -> None:
        """As vit_jax/models_vit.py: position embeddings normal(0.02), head zero."""
        nn.init.normal_(self.pos_embed, std=0.02)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


class PatchEmbed(nn.Module):
    """Images (B, 3, S, S) -> tokens (B, (S/P)^2, D). Eq. 1 of the paper."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        std = math.sqrt(1 / (3 * patch * patch)) / LECUN_TRUNCATION
        nn.init.trunc_normal_(self.proj.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]  # Conv2d has a bias by default

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> tokens (B, N-1, D)."""
        maps: Tensor = self.proj(images)  # (B, D, S/P, S/P)
        return maps.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, tokens (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, num_heads: int, rate: float, kind: AttentionKind) -> None:
        super().__init__()
        self.num_heads, self.kind = num_heads, kind
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(rate)
        for part in self.qkv.weight.chunk(3):  # flax has three kernels, so fans are (D, D), not (D, 3D)
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(self.qkv.bias)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) -> (B, N, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, d)
        mixed = self._attend(query, key, value).transpose(1, 2).reshape(batch, count, width)
        out: Tensor = self.proj_drop(self.proj(mixed))
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.kind == "fused":
            return F.scaled_dot_product_attention(query, key, value)
        # K is scaled first: the smaller numbers keep bfloat16 products in range, as Habana's own ViT does.
        scores = query @ (key * query.shape[-1] ** -0.5).transpose(-2, -1)  # (B, H, N, N)
        mixed: Tensor = scores.softmax(dim=-1) @ value
        return mixed


class Mlp(nn.Module):
    """Two linear layers with tanh GELU between, tokens (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, hidden: int, rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU(approximate="tanh")  # flax.linen.gelu's default
        self.drop = nn.Dropout(rate)
        self.fc2 = nn.Linear(hidden, width)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) -> (B, N, D); dropout after GELU and after the second layer, as in flax."""
        out: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(tokens)))))
        return out


class Block(nn.Module):
    """Pre-norm encoder block, tokens (B, N, D) -> (B, N, D). Eq. 2 and 3 of the paper."""

    def __init__(self, variant: Variant, rate: float, attention: AttentionKind) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(variant.width, eps=LAYER_NORM_EPS)
        self.attn = Attention(variant.width, variant.num_heads, rate, attention)
        self.norm2 = nn.LayerNorm(variant.width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(variant.width, variant.mlp_width, rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) -> (B, N, D)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out
