"""Exact evaluation: each validation image counted once over all ranks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit.data import PADDING_LABEL, checked
from vit.device import Device
from vit.distributed import Group


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one pass over the validation images found."""

    top1_percent: float
    eval_loss: float
    eval_images: int


def normalise(images: Tensor) -> Tensor:
    """Images (B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [-1, 1], as the reference's input."""
    return (images.permute(0, 3, 1, 2).contiguous().float() - 127.5) / 127.5


@torch.no_grad()
def evaluate(model: nn.Module, loader: Iterable[Any], device: Device, group: Group, *, autocast: bool) -> Evaluation:
    """Top-1 and mean loss over all ranks; the model is left in training mode. Raises DataError."""
    model.eval()
    totals = torch.zeros(3, device=device.torch_device)  # correct, seen, loss: float32 counts to 16.7 million exactly
    for item in loader:
        batch = checked(item)
        images = batch.images.to(device.torch_device, non_blocking=True)
        labels = batch.labels.to(device.torch_device, non_blocking=True)
        with device.autocast(autocast):
            logits = model(normalise(images))
        totals += count(logits.float(), labels)
        device.mark_step()
    model.train()
    correct, seen, loss = group.sum(totals.tolist())
    return Evaluation(top1_percent=100 * correct / seen, eval_loss=loss / seen, eval_images=round(seen))


def count(logits: Tensor, labels: Tensor) -> Tensor:
    """(correct, seen, sum of losses) of a batch; labels of -1 are padding and count nowhere."""
    real = labels != PADDING_LABEL
    correct = logits.argmax(dim=-1) == labels  # never true of padding: no class is -1
    loss = F.cross_entropy(logits, labels, ignore_index=PADDING_LABEL, reduction="sum")
    return torch.stack((correct.float().sum(), real.float().sum(), loss))
