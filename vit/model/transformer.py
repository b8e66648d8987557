# SPDX-License-Identifier: Apache-2.0
"""The Vision Transformer (arXiv:2010.11929) with timm's state-dict keys and the numerics of Google's flax code.

Shapes: B images, N tokens (class token first), D width, H heads, d = D / H, P patch side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vit.model.resnet import LECUN_TRUNCATION, ResNet
from vit.variants import VARIANTS, AttentionKind, GeluKind, Size, Variant

LAYER_NORM_EPS = 1e-6  # flax's default; PyTorch's is 1e-5
GELU_APPROXIMATIONS = {"tanh": "tanh", "erf": "none"}  # flax.linen.gelu's default is tanh; the PyTorch ports have erf


def create_model(
    model_type: str,
    img_size: int | Size = 384,
    num_classes: int = 1000,
    *,
    dropout: float | None = None,
    attention: AttentionKind = "fused",
    gelu: GeluKind = "tanh",
    grad_checkpointing: bool = False,
) -> VisionTransformer:
    """A freshly initialised model for square images or (height, width); `dropout` defaults to the reference's rate."""
    variant = VARIANTS[model_type]
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    model = VisionTransformer(variant, size, num_classes, dropout=dropout, attention=attention, gelu=gelu)
    model.grad_checkpointing = grad_checkpointing
    return model


class VisionTransformer(nn.Module):
    """Images (B, 3, S, S), normalised -> logits (B, num_classes)."""

    grad_checkpointing = False
    """Keep each block's input only and compute the rest again in the backward pass: less memory, a third more time."""
    group_norm_axes = 4
    """Axes of GroupNorm's arrays in an .npz: 4 in Google's bucket; vit.weights remembers here what a file had."""

    def __init__(
        self,
        variant: Variant,
        img_size: Size,
        num_classes: int,
        *,
        dropout: float | None = None,
        attention: AttentionKind = "fused",
        gelu: GeluKind = "tanh",
    ) -> None:
        super().__init__()
        width, rate = variant.width, variant.dropout if dropout is None else dropout
        self.variant, self.num_heads, self.num_classes, self.gelu = variant, variant.num_heads, num_classes, gelu
        self.grid = variant.grid(img_size)
        self.patch_embed = HybridEmbed(variant) if variant.resnet else PatchEmbed(variant.patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], width))
        self.pos_drop = nn.Dropout(rate)
        self.blocks = nn.ModuleList(Block(variant, rate, attention, gelu) for _ in range(variant.num_layers))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(width, num_classes)
        self._init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> logits (B, C)."""
        tokens = self._embed(images)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits

    def attention_maps(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> what each token looks at, by layer and head (L, B, H, N, N); each row sums to 1."""
        return torch.stack(list(self.layer_maps(images)))

    def layer_maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the attention maps of one layer after another, (B, H, N, N): together they can take gigabytes."""
        tokens = self._embed(images)
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block.attn.weights(block.norm1(tokens))
            tokens = block(tokens)

    def _embed(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images)
        tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)  # (B, N, D)
        embedded: Tensor = self.pos_drop(tokens + self.pos_embed)
        return embedded

    def _init_weights(self) -> None:
        """As vit_jax/models_vit.py: position embeddings normal(0.02), head zero."""
        nn.init.normal_(self.pos_embed, std=0.02)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


def embedding_conv(inputs: int, width: int, side: int) -> nn.Conv2d:
    """Return the convolution that makes tokens of whole patches."""
    conv = nn.Conv2d(inputs, width, kernel_size=side, stride=side)
    std = math.sqrt(1 / (inputs * side * side)) / LECUN_TRUNCATION
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # Conv2d has a bias by default
    return conv


class PatchEmbed(nn.Module):
    """Images (B, 3, S, S) -> tokens (B, (S/P)^2, D). Eq. 1 of the paper."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = embedding_conv(3, width, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> tokens (B, N-1, D)."""
        maps: Tensor = self.proj(images)  # (B, D, S/P, S/P)
        return maps.flatten(2).transpose(1, 2)


class HybridEmbed(nn.Module):
    """Images (B, 3, S, S) -> tokens (B, (S/16)^2, D), from a ResNet's maps."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.backbone = ResNet(variant.resnet)
        self.proj = embedding_conv(self.backbone.num_features, variant.width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> tokens (B, N-1, D)."""
        maps: Tensor = self.proj(self.backbone(images))  # (B, D, S/16, S/16)
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
        query, key, value = self._split(tokens)
        if self.kind == "fused":
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = _weights(query, key) @ value
        out: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))  # (B, H, N, d) -> (B, N, D)
        return out

    def weights(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) -> attention weights (B, H, N, N)."""
        query, key, _ = self._split(tokens)
        return _weights(query, key)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, H, N, d)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value


def _weights(query: Tensor, key: Tensor) -> Tensor:
    # K is scaled first: the smaller numbers keep bfloat16 products in range, as Habana's own ViT does.
    scores = query @ (key * query.shape[-1] ** -0.5).transpose(-2, -1)  # (B, H, N, N)
    weights: Tensor = scores.softmax(dim=-1)
    return weights


class Mlp(nn.Module):
    """Two linear layers with GELU between, tokens (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, hidden: int, rate: float, gelu: GeluKind) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU(approximate=GELU_APPROXIMATIONS[gelu])
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

    def __init__(self, variant: Variant, rate: float, attention: AttentionKind, gelu: GeluKind) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(variant.width, eps=LAYER_NORM_EPS)
        self.attn = Attention(variant.width, variant.num_heads, rate, attention)
        self.norm2 = nn.LayerNorm(variant.width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(variant.width, variant.mlp_width, rate, gelu)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) -> (B, N, D)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out
