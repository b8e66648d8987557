# SPDX-License-Identifier: Apache-2.0
"""Attention rollout (arXiv:2005.00928): how much of each image token reaches the class token, layer by layer.

As jeonsworld/ViT-pytorch's notebook computes it: mean over the heads, plus the identity for the residual connection,
rows divided by their sum, and the product over the layers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vit.variants import Size


def rollout(maps: Iterable[Tensor], grid: Size) -> Tensor:
    """Attention maps of each layer (B, H, N, N) -> maps (L, B, rows, columns) of the layers so far, each at most 1.

    The last one is the published map of the whole model. The hybrid's tokens are those of its ResNet's last stage.
    """
    joint: Tensor | None = None
    rows = []
    for weights in maps:
        mixed = weights.float().mean(dim=1)  # (B, N, N)
        mixed = mixed + torch.eye(mixed.shape[-1], device=mixed.device)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        joint = mixed if joint is None else mixed @ joint
        rows.append(joint[:, 0, 1:])
    tokens = torch.stack(rows)
    found: Tensor = (tokens / tokens.amax(dim=-1, keepdim=True)).reshape(*tokens.shape[:-1], *grid)
    return found
