# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.training.loss import mixed, mixup_share, partners, training_loss  # noqa: E402  # after the skip

LOGITS, LABELS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 2])


def test_partners_are_neighbours_and_stay_so_when_a_batch_is_split() -> None:
    assert partners(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    images = torch.rand(4, 3, 2, 2)
    split = torch.cat([mixed(part, torch.tensor(0.3)) for part in images.split(2)])
    assert torch.equal(mixed(images, torch.tensor(0.3)), split)


def test_the_loss_is_that_of_timms_smoothed_and_mixed_targets() -> None:
    mixup = pytest.importorskip("timm.data.mixup", reason="vit tests need timm: pip install timm")
    smooth = mixup.one_hot(LABELS, 4, on_value=0.9 + 0.1 / 4, off_value=0.1 / 4)
    target = smooth * 0.3 + partners(smooth) * 0.7
    expected = -(target * LOGITS.log_softmax(-1)).sum(-1).mean()
    found = training_loss(LOGITS, LABELS, smoothing=0.1, share=torch.tensor(0.3))
    torch.testing.assert_close(found, expected)


def test_label_smoothing_is_timms() -> None:
    loss = pytest.importorskip("timm.loss", reason="vit tests need timm: pip install timm")
    expected = loss.LabelSmoothingCrossEntropy(smoothing=0.1)(LOGITS, LABELS)
    torch.testing.assert_close(training_loss(LOGITS, LABELS, smoothing=0.1, share=None), expected)


def test_the_share_depends_on_seed_and_step_alone_and_has_betas_mean() -> None:
    shares = [mixup_share(0, step, 0.8) for step in range(500)]
    assert shares[3] == mixup_share(0, 3, 0.8) != mixup_share(1, 3, 0.8)
    assert 0.45 < sum(shares) / 500 < 0.55
