# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from vit.runtime.device import Device  # noqa: E402  # after the skip
from vit.runtime.distributed import Group  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402
from vit.training.meter import Meter, known_peak  # noqa: E402


@pytest.mark.parametrize("peak", [None, 0.001])
def test_rates_are_of_the_steps_alone_and_mfu_needs_a_peak(peak: float | None) -> None:
    device = Device(Ranks())
    meter, group = Meter(device, flops_per_image=10**6, peak_tflops=peak), Group(Ranks(), device, timeout_seconds=9)
    meter.started -= 3.0  # two steps of a second each, and a save of one second
    for loss in (1.0, 3.0):
        meter.add(torch.tensor(loss), torch.tensor(0.5), data_seconds=0.25)
    meter.add_save(1.0)
    values = meter.read(group, step=2, global_batch=8)
    assert (values["loss"], values["gradient_norm"], values["save_seconds"]) == (2.0, 0.5, 1.0)
    assert values["step_seconds"] == pytest.approx(1.0, abs=0.05)
    assert values["tflop_per_second"] == pytest.approx(8e-6, rel=0.05)
    assert values["mfu_percent"] == (None if peak is None else pytest.approx(0.8, rel=0.05))


def test_only_devices_with_a_published_peak_have_one() -> None:
    assert known_peak("NVIDIA A100-SXM4-80GB") == 312
    assert known_peak("NVIDIA H100 PCIe") == 756.5
    assert known_peak("NVIDIA H100 80GB HBM3") == 989.4
    assert known_peak("GAUDI2") == 432
    assert known_peak("GAUDI") is None
    assert known_peak("CPU") is None
