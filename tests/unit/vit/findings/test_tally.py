# SPDX-License-Identifier: Apache-2.0
"""Counts of classes, confused pairs and the images to look at, by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from vit.data.sampler import EvalBatches  # noqa: E402
from vit.findings import tally as module  # noqa: E402
from vit.findings.tally import Findings, Sample, Tally, added, chosen  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.distributed import Group  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402


def found(tally: Tally) -> Findings:
    return tally.over_ranks(Group(Ranks(), Device(Ranks()), timeout_seconds=9))


def guessing(*classes: int, num_classes: int) -> torch.Tensor:
    """Logits whose best guesses are these; the others follow from the highest class down."""
    logits = torch.arange(float(num_classes)).repeat(len(classes), 1)
    logits[torch.arange(len(classes)), list(classes)] = 99.0
    return logits


def test_two_batches_by_hand_with_a_padded_and_a_damaged_image() -> None:
    tally = Tally(EvalBatches(num_images=7, rank=0, world_size=1, batch_size=4), 8, 24)
    tally.add(guessing(1, 2, 2, 5, num_classes=8), torch.tensor([1, 1, 1, -1]))  # image 3 is damaged
    tally.add(guessing(0, 7, 2, 3, num_classes=8), torch.tensor([0, 0, 1, -1]))  # the last one is padding
    result = found(tally)
    images, top1, top5 = result.counts.tolist()
    assert images == [2, 4, 0, 0, 0, 0, 0, 0]
    assert top1 == [1, 1, 0, 0, 0, 0, 0, 0]
    assert top5 == [1, 1, 0, 0, 0, 0, 0, 0]  # the four behind the best are of 7, 6, 5, 4, 3
    assert result.pairs == [(1, 2, 3), (0, 7, 1)]
    assert [(one.image, one.label, one.guesses[0][0]) for one in result.samples[:4]] == [
        (1, 1, 2),
        (2, 1, 2),
        (5, 0, 7),
        (6, 1, 2),
    ]
    assert {one.image for one in result.samples[4:]} == {0, 4}


def test_the_label_among_five_guesses_counts_and_the_probabilities_are_the_softmax() -> None:
    tally = Tally(EvalBatches(num_images=2, rank=0, world_size=1, batch_size=2), 6, 24)
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    tally.add(logits, torch.tensor([1, 5]))
    result = found(tally)
    assert result.counts[2].tolist() == [0, 1, 0, 0, 0, 0]
    first = next(one for one in result.samples if one.image == 0)
    assert [guess for guess, _ in first.guesses] == [5, 4, 3, 2, 1]
    assert [share for _, share in first.guesses] == pytest.approx(logits[0].softmax(0).flip(0)[:5].tolist(), rel=1e-5)


def test_the_surest_of_the_wrong_guesses_come_first_whatever_batch_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCHES_KEPT", 2)
    sure = torch.tensor([3.0, 9.0, 1.0, 7.0, 5.0, 2.0, 8.0, 4.0, 6.0])
    tally = Tally(EvalBatches(num_images=9, rank=0, world_size=1, batch_size=1), 2, 4)
    for value in sure:
        tally.add(torch.stack((value, torch.tensor(0.0)))[None], torch.tensor([1]))
    assert [one.image for one in found(tally).samples] == [1, 6, 3, 8]


def test_a_quarter_is_left_to_right_guesses_and_more_where_few_are_wrong() -> None:
    wrong = [Sample(number, number, 0, ()) for number in range(30)]
    right = [Sample(number, 100 + number, 0, ()) for number in range(30)]
    numbers = [one.image for one in chosen(wrong, right, 24)]
    assert numbers == [*range(18), *range(100, 106)]
    assert [one.image for one in chosen(wrong[:2], right, 24)] == [0, 1, *range(100, 122)]
    assert [one.image for one in chosen(wrong, right[:1], 24)] == [*range(23), 100]
    assert chosen(wrong, right, 0) == []


def test_counted_pairs_are_added_up_and_the_rarest_are_dropped_above_the_limit() -> None:
    parts = [np.array([[5, 7, 9], [1, 4, 2]]), np.array([[7, 5], [3, 1]])]
    assert added(parts, 9).tolist() == [[5, 7, 9], [2, 7, 2]]
    assert added(parts, 1).tolist() == [[7], [7]]


def test_twenty_thousand_classes_take_no_memory_of_their_square() -> None:
    num_classes, random = 21_843, np.random.RandomState(0)
    tally = Tally(EvalBatches(num_images=4096, rank=0, world_size=1, batch_size=64), num_classes, 0)
    labels = random.randint(0, num_classes, 4096)
    for start in range(0, 4096, 64):
        logits = torch.zeros(64, num_classes)
        logits[:, 17] = 1.0
        tally.add(logits, torch.from_numpy(labels[start : start + 64]))
    result = found(tally)
    wrong = labels[labels != 17]
    assert sum(count for _, _, count in result.pairs) == len(wrong)
    assert result.pairs[0][2] == np.bincount(wrong).max()
    assert tally.pairs.nbytes <= 16 * 4096
