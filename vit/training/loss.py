# SPDX-License-Identifier: Apache-2.0
"""What training minimises: cross-entropy, with label smoothing and mixup (arXiv:1710.09412) if asked for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def mixup_share(seed: int, step: int, alpha: float) -> float:
    """An image's own share in its mixture at this step, the same for the whole global batch; Beta(alpha, alpha)."""
    return float(np.random.RandomState([seed, step, 3]).beta(alpha, alpha))  # the 3 keeps it apart from other draws


def partners(batch: Tensor) -> Tensor:
    """(B, ...) with neighbours 0 and 1, 2 and 3, ... exchanged: pairs stay together however ranks split a batch."""
    return batch.reshape(-1, 2, *batch.shape[1:]).flip(1).reshape(batch.shape)


def mixed(images: Tensor, share: Tensor) -> Tensor:
    """Images (B, ...) with their partners mixed in; `share` is a scalar on the device: no graph depends on it."""
    return images * share + partners(images) * (1 - share)


def training_loss(logits: Tensor, labels: Tensor, *, smoothing: float, share: Tensor | None) -> Tensor:
    """Mean cross-entropy of logits (B, C) and labels (B), of both labels of a mixture by their shares."""
    if share is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    own, other = (F.cross_entropy(logits, wanted, label_smoothing=smoothing) for wanted in (labels, partners(labels)))
    return own * share + other * (1 - share)


def share_tensor(seed: int, step: int, alpha: float, device: torch.device) -> Tensor | None:
    """mixup_share on the device; None without mixup."""
    return torch.tensor(mixup_share(seed, step, alpha)).to(device, non_blocking=True) if alpha else None
