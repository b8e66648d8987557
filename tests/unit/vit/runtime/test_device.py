# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import ROOT, clean_environment  # noqa: E402  # after the skip
from vit.errors import ConfigError  # noqa: E402
from vit.runtime.devices import count_devices, open_device  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402


@pytest.mark.parametrize("kind", ["hpu", "cuda", "cpu"])
def test_the_module_prints_a_bare_count_of_devices(kind: str) -> None:
    command = [sys.executable, "-m", "vit.runtime.devices", kind]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, f"{count_devices(kind)}\n")
    assert int(done.stdout) >= (kind == "cpu")


def test_other_devices_never_touch_habana() -> None:
    program = (
        "import sys, vit.training.trainer\nfrom vit.runtime.devices import *\n"
        "open_device('auto', Ranks()); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=True)
    assert "vit.runtime.distributed" in done.stdout
    assert "habana" not in done.stdout
    assert "vit.runtime.hpu" not in done.stdout


def test_hpu_without_its_software_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match="--device: hpu, but this Python has no habana_frameworks, use Habana's"):
        open_device("hpu", Ranks())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"--device: cuda, but local rank 0 has no GPU \(0 found\)"):
        open_device("cuda", Ranks())


def test_the_cpu_has_no_memory_figure_and_autocast_is_bfloat16() -> None:
    device = open_device("cpu", Ranks())
    assert device.peak_memory_gib() is None
    assert isinstance(device.autocast(False), nullcontext)
    with device.autocast(True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
