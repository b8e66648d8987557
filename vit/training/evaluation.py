# SPDX-License-Identifier: Apache-2.0
"""Exact evaluation: each validation image counted once over all ranks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit.config import Config
from vit.data.batches import PADDING_LABEL, Batch, Batches, DamageReport
from vit.errors import DataError, NotFiniteError
from vit.findings.tally import TOP, Array, Tally
from vit.model.rollout import rollout
from vit.model.transformer import VisionTransformer
from vit.run import phases
from vit.runtime.device import Device
from vit.runtime.distributed import Group
from vit.scaling import Scaling


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one pass over the validation images found."""

    top1_percent: float
    top5_percent: float
    eval_loss: float
    eval_images: int
    damaged_images: int
    """Images that could not be decoded; they are not among eval_images."""
    per_class: tuple[tuple[int, int], ...]
    """(images, right ones) of each class."""

    def as_dict(self, class_names: list[str] | None) -> dict[str, Any]:
        """Return what JSON shows; with the classes' names also each class's images and top-1."""
        result: dict[str, Any] = {
            "top1_percent": self.top1_percent,
            "top5_percent": self.top5_percent,
            "eval_loss": self.eval_loss,
            "eval_images": self.eval_images,
            "damaged_images": self.damaged_images,
        }
        if class_names is not None:
            result["per_class"] = {
                name: {"images": seen, "top1_percent": 100 * right / seen if seen else None}
                for name, (seen, right) in zip(class_names, self.per_class, strict=True)
            }
        return result


def normalise(images: Tensor, scaling: Scaling) -> Tensor:
    """Images (B, S, S, 3) uint8 -> (B, 3, S, S) float32, scaled; float32 is so already."""
    planes = images.permute(0, 3, 1, 2).contiguous()
    if images.dtype.is_floating_point:
        return planes
    mean, std = _constants(scaling, images.device)
    scaled: Tensor = (planes.float() - mean) / std
    return scaled


@functools.cache
def _constants(scaling: Scaling, device: torch.device) -> list[Any]:
    """Mean and std as numbers or as tensors (3, 1, 1), made once: a copy at each step would wait for the device."""
    return [
        value if isinstance(value, float) else torch.tensor(value, device=device)[:, None, None]
        for value in scaling.levels()
    ]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    device: Device,
    group: Group,
    *,
    autocast: bool,
    scaling: Scaling,
    num_classes: int,
    damage: DamageReport,
    tally: Tally | None = None,
) -> Evaluation:
    """Top-1, top-5 and mean loss over all ranks; the model is left in training mode. `tally` sees each batch too.

    Raises DataError, and NotFiniteError on every rank.
    """
    model.eval()
    # In float32, which counts to 16.7 million exactly: right, right among 5, loss, then seen and right of each class.
    totals = torch.zeros(3 + 2 * num_classes, device=device.torch_device)
    num_damaged = 0
    for batch in batches:
        num_damaged += len(batch.damaged)
        damage.tell(batch, "it is not counted")
        images, labels = device.upload(batch.images), device.upload(batch.labels)
        with device.autocast(autocast):
            logits = model(normalise(images, scaling))
        totals += count(logits.float(), labels)
        device.mark_step()
        if tally is not None:
            tally.add(logits.float(), labels)
            device.mark_step()
        phases.beat()
    model.train()
    return _summary(group.sum([*totals.tolist(), float(num_damaged)]), num_classes)


def _summary(sums: list[float], num_classes: int) -> Evaluation:
    top1, top5, loss = sums[:3]
    seen, right = sums[3 : 3 + num_classes], sums[3 + num_classes : 3 + 2 * num_classes]
    num_images = sum(seen)
    if not num_images:
        raise DataError("data", "no validation image could be decoded", "repair the data set")
    if not math.isfinite(loss):  # an accuracy of such outputs is a number without a meaning
        raise _not_finite(round(num_images))
    return Evaluation(
        top1_percent=100 * top1 / num_images,
        top5_percent=100 * top5 / num_images,
        eval_loss=loss / num_images,
        eval_images=round(num_images),
        damaged_images=round(sums[-1]),
        per_class=tuple((round(a), round(b)) for a, b in zip(seen, right, strict=True)),
    )


def _not_finite(num_images: int) -> NotFiniteError:
    what = f"the loss of {num_images:,} validation images is not finite"
    fix = "use weights that are finite: an earlier checkpoint, or a run with a lower --learning_rate"
    error = NotFiniteError("evaluation", what, fix)
    error.shared = True
    return error


def count(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (B, C), labels (B) -> (right, right among 5, sum of losses, seen of each class, right of each class).

    Labels of -1 are padding and count nowhere. The vector has 3 + 2 C numbers.
    """
    real = (labels != PADDING_LABEL).float()
    guesses = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
    right = (guesses == labels[:, None]).float()  # never true of padding: no class is -1
    loss = F.cross_entropy(logits, labels, ignore_index=PADDING_LABEL, reduction="sum")
    places = labels.clamp(min=0)
    per_class = torch.zeros(2, logits.shape[-1], device=logits.device)
    per_class[0].index_add_(0, places, real)
    per_class[1].index_add_(0, places, right[:, 0])
    return torch.cat((torch.stack((right[:, 0].sum(), right.sum(), loss)), per_class.flatten()))


def attention_maps(model: nn.Module, batches: Batches, device: Device, config: Config) -> Callable[[int], Array] | None:
    """Return what gives the attention rollout (rows, columns) of an image; None for a hybrid.

    A hybrid's tokens have seen more of the image than their place in it. The model is left in training mode.
    """
    if config.variant.resnet:
        return None

    @torch.no_grad()
    def look(index: int) -> Array:
        assert isinstance(model, VisionTransformer)
        images = normalise(device.upload(batches.batch([(0, index)]).images), config.scaling)
        model.eval()
        found: Array = rollout(model.layer_maps(images), model.grid)[-1, 0].cpu().numpy()
        model.train()
        return found

    return look
