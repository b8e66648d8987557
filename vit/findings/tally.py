# SPDX-License-Identifier: Apache-2.0
"""What one evaluation finds in each class: counts, confused pairs, and the images to look at. Exact over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vit.data.sampler import EvalBatches
from vit.runtime.distributed import Group

Array = np.ndarray[Any, Any]

TOP = 5
BATCHES_KEPT = 64  # on the device, before they are counted: each count waits for the device
MOST_PAIRS = 2**22
"""Different pairs of classes that all ranks together keep, 64 MiB: exact for up to so many wrong guesses."""
SPREAD = 2654435761  # Knuth's multiplicative hash: an order of images that is none of the data set's


class Sample(NamedTuple):
    """An image with the model's best guesses; those with the smallest `order` are shown."""

    order: float
    image: int
    label: int
    guesses: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What all ranks found."""

    counts: Array
    """(3, C): images of each class, those guessed right, and those right among the five best guesses."""
    pairs: list[tuple[int, int, int]]
    """(true class, guess, images), the most frequent first."""
    samples: list[Sample]
    """Wrong guesses first: the surest of them, then right ones from anywhere in the data set."""


class Tally:
    """Counts the images of one rank while they are evaluated."""

    def __init__(self, keys: EvalBatches, num_classes: int, num_samples: int) -> None:
        self.keys, self.num_classes, self.num_samples = iter(keys), num_classes, num_samples
        self.most_pairs = max(1, MOST_PAIRS // keys.world_size)
        self.counts: Array = np.zeros((3, num_classes), np.int64)
        self.pairs: Array = np.zeros((2, 0), np.int64)  # true class x C + guess, and how often
        self.wrong: list[Sample] = []
        self.right: list[Sample] = []
        self.rows: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count the next batch: logits (B, C) in float32, labels (B), -1 for what does not count."""
        best = logits.topk(min(TOP, self.num_classes), dim=-1)
        shares = (best.values - logits.logsumexp(dim=-1, keepdim=True)).exp()
        self.rows.append(torch.cat((labels[:, None].float(), best.indices.float(), shares), dim=1))
        if len(self.rows) == BATCHES_KEPT:
            self._count()

    def _count(self) -> None:
        if not self.rows:
            return
        rows = torch.cat(self.rows).cpu().numpy()
        indices = np.array([index for _ in self.rows for _, index in next(self.keys)])
        self.rows.clear()
        rows, indices = rows[rows[:, 0] >= 0], indices[rows[:, 0] >= 0]
        size = rows.shape[1] // 2
        labels, guesses = rows[:, 0].astype(np.int64), rows[:, 1 : 1 + size].astype(np.int64)
        hits = guesses == labels[:, None]
        for row, among in zip(self.counts, (labels >= 0, hits[:, 0], hits.any(axis=1)), strict=True):
            row += np.bincount(labels[among], minlength=self.num_classes)
        missed = ~hits[:, 0]
        new = labels[missed] * self.num_classes + guesses[missed, 0]
        self.pairs = added([self.pairs, np.stack((new, np.ones_like(new)))], self.most_pairs)
        self._keep(indices, labels, guesses, rows[:, 1 + size :])

    def _keep(self, indices: Array, labels: Array, guesses: Array, shares: Array) -> None:
        """Keep the samples that come first among these and those kept so far."""
        wrong = guesses[:, 0] != labels
        order = np.where(wrong, -shares[:, 0].astype(np.float64), indices * SPREAD % 2**32)
        for kept, places in ((self.wrong, np.flatnonzero(wrong)), (self.right, np.flatnonzero(~wrong))):
            for place in places[np.lexsort((indices[places], order[places]))][: self.num_samples].tolist():
                pairs = zip(guesses[place].tolist(), shares[place].tolist(), strict=True)
                kept.append(Sample(float(order[place]), int(indices[place]), int(labels[place]), tuple(pairs)))
            kept[:] = sorted(kept)[: self.num_samples]

    def over_ranks(self, group: Group) -> Findings:
        """Return what all ranks counted, on every rank."""
        self._count()
        counts = np.array(group.sum(self.counts.flatten().tolist())).astype(np.int64)
        parts = group.gather_objects((self.pairs, self.wrong, self.right))
        codes, totals = added([pairs for pairs, _, _ in parts], MOST_PAIRS)
        order = np.lexsort((codes, -totals))
        pairs = zip(*(part[order].tolist() for part in (*np.divmod(codes, self.num_classes), totals)), strict=True)
        wrong, right = (sorted(one for part in parts for one in part[side]) for side in (1, 2))
        return Findings(counts=counts.reshape(3, -1), pairs=list(pairs), samples=chosen(wrong, right, self.num_samples))


def added(parts: Sequence[Array], most: int) -> Array:
    """Add up counted codes, (2, N) each; the `most` most frequent of them."""
    codes, places = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    totals = np.bincount(places, np.concatenate([part[1] for part in parts]), len(codes)).astype(np.int64)
    kept = np.argsort(-totals, kind="stable")[:most] if len(codes) > most else slice(None)
    return np.stack((codes[kept], totals[kept]))


def chosen(wrong: list[Sample], right: list[Sample], number: int) -> list[Sample]:
    """Wrong guesses first; at least a quarter is left to right ones, where there are some."""
    num_right = min(len(right), max(number // 4, number - len(wrong)))
    return wrong[: number - num_right] + right[:num_right]
