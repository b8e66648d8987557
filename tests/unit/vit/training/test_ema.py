# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.training.ema import WeightAverage  # noqa: E402  # after the skip


def test_the_average_by_hand_and_the_models_own_weights_come_back_bit_for_bit() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, 0.9)
    torch.nn.init.constant_(model.weight, 0.3)
    average.update()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), torch.full((1, 2), 0.93))
    assert torch.equal(model.weight, torch.full((1, 2), 0.3))


def test_a_saved_average_goes_on() -> None:
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    average, again = WeightAverage(first, 0.5), WeightAverage(second, 0.5)
    again.load_state_dict(average.state_dict())
    assert torch.equal(again.state_dict()["weight"], first.weight)
