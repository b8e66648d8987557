from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.vit.running import ROOT, clean_environment  # noqa: E402  # after the skip
from vit.device import count_devices, open_device  # noqa: E402
from vit.errors import ConfigError  # noqa: E402
from vit.ranks import Ranks  # noqa: E402


@pytest.mark.parametrize("kind", ["hpu", "cuda", "cpu"])
def test_the_module_prints_a_bare_count_of_devices(kind: str) -> None:
    command = [sys.executable, "-m", "vit.device", kind]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, f"{count_devices(kind)}\n")
    assert int(done.stdout) >= (kind == "cpu")


def test_other_devices_never_touch_habana() -> None:
    program = "import sys, vit.session; from vit.device import *; open_device('auto', Ranks()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=True)
    assert "vit.distributed" in done.stdout
    assert "habana" not in done.stdout
    assert "vit.hpu" not in done.stdout


def test_hpu_without_its_software_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match="--device: hpu, but this Python has no habana_frameworks, use Habana's"):
        open_device("hpu", Ranks())


STAND_IN = {
    "__init__.py": "",
    "torch/__init__.py": "",
    "torch/core.py": "import os; assert os.environ['PT_HPU_LAZY_MODE']\ndef mark_step(): print('mark_step')",
    "torch/hpu.py": """
def is_available(): return True
def device_count(): return 8
def get_device_name(): return 'GAUDI'
def synchronize(): print('synchronize')
def max_memory_allocated(): return 2**31
""",
}
"""A stand-in for Habana's package: it holds the order of calls, not their arithmetic."""


@pytest.mark.parametrize(("lazy_mode", "words"), [(None, "lazy"), ("1", "lazy"), ("0", "eager")])
def test_hpu_sets_lazy_mode_before_habana_is_imported_and_says_it(
    tmp_path: Path, lazy_mode: str | None, words: str
) -> None:
    for name, text in STAND_IN.items():
        (tmp_path / "habana_frameworks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "habana_frameworks" / name).write_text(text)
    program = """
from vit.device import open_device, count_devices; from vit.ranks import Ranks
d = open_device('auto', Ranks()); d.mark_step(); d.synchronize()
print(count_devices('hpu'), d.kind, d.backend, d.attention, d.peak_memory_gib(), d.ddp_options(), d.describe())
"""
    environment = {**clean_environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}", "PT_HPU_LAZY_MODE": lazy_mode or ""}
    if lazy_mode is None:
        del environment["PT_HPU_LAZY_MODE"]
    done = subprocess.run([sys.executable, "-c", program], env=environment, text=True, capture_output=True)
    options = "{'gradient_as_bucket_view': True, 'broadcast_buffers': False, 'bucket_cap_mb': 256}"
    said = f"8 hpu hccl explicit 2.0 {options} GAUDI in {words} mode (PT_HPU_LAZY_MODE={lazy_mode or 1})\n"
    assert done.stdout == ("mark_step\n" if words == "lazy" else "") + "synchronize\n" + said, done.stderr


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
