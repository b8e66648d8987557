from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.data import Batch  # noqa: E402  # after the skip
from vit.device import Device  # noqa: E402
from vit.distributed import Group  # noqa: E402
from vit.evaluate import count, evaluate, normalise  # noqa: E402
from vit.ranks import Ranks  # noqa: E402


def test_a_batch_counted_by_hand_with_one_padded_image() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [9.0, 0.0]])
    correct, seen, loss = count(logits, torch.tensor([0, 0, 0, -1])).tolist()
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert (correct, seen) == (2, 3)
    assert loss == pytest.approx(2 * right + wrong, rel=1e-6)


def test_an_evaluation_by_hand_over_two_batches() -> None:
    class ByRed(torch.nn.Module):
        """Guesses class 1 for bright images, class 0 for dark ones."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            red = images[:, 0].mean(dim=(1, 2))
            return torch.stack((-red, red), dim=1)

    bright, dark = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8), torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    first = Batch(torch.cat((bright, dark, dark)), torch.tensor([1, 0, 1]))
    second = Batch(torch.cat((bright, dark, dark)), torch.tensor([1, -1, -1]))
    device, model = Device(Ranks()), ByRed()
    result = evaluate(model, [first, second], device, Group(Ranks(), device), autocast=False)
    assert (result.top1_percent, result.eval_images) == (75.0, 4)
    assert result.eval_loss == pytest.approx((3 * math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 4)
    assert model.training


def test_input_is_scaled_as_the_reference_does() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert normalise(images).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])
