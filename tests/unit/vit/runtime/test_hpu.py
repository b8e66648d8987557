# SPDX-License-Identifier: Apache-2.0
"""Whole runs on the stand-in in tests/support/standin: Habana's documented calls, in their order. No Gaudi."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, ROOT, Result, clean_environment, finish, start_ranks  # after the skip

STAND_IN = Path(__file__).resolve().parents[4] / "tests" / "support" / "standin"
STEP = ["autocast hpu torch.bfloat16", "backward", "mark_step"]
"""A micro-batch in lazy mode."""


@pytest.fixture
def on_hpu(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs; ranks find the stand-in and write their calls to calls.<rank>."""
    monkeypatch.setenv("HABANA_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("MPIKIT_TEST_PATH", str(STAND_IN))
    return tmp_path


def train(root: Path, images: Path, world_size: int, *flags: str) -> list[Result]:
    common = ["--device", "hpu", "--data_path", str(images), "--output_dir", str(root), "--name", "a"]
    return finish(start_ranks(world_size, *common, "--num_steps", "4", "--log_every", "4", "--eval_every", "4", *flags))


def calls(root: Path, rank: int = 0) -> list[str]:
    return (root / f"calls.{rank}").read_text().splitlines()


def steps_of(lines: list[str]) -> list[str]:
    """The calls from the first forward pass to the fourth step's last mark_step, evaluation and saving left out."""
    start = lines.index("autocast hpu torch.bfloat16")
    ends = [number for number, line in enumerate(lines) if line == "optimizer step"]
    return lines[start : ends[3] + 2]


def test_lazy_mode_is_set_before_torch_and_habana_and_every_step_is_marked(on_hpu: Path, images: Path) -> None:
    flags = ["--autocast", "--gradient_accumulation_steps", "2", "--dropout", "0.1", "--optimizer", "sgd"]
    result = train(on_hpu, images, 1, *flags)[0]
    assert result.code == 0, result.err
    assert "device: GAUDI in lazy mode (PT_HPU_LAZY_MODE=1)" in result.err
    lines = calls(on_hpu)
    assert lines[0] == "import habana_frameworks PT_HPU_LAZY_MODE=1 torch=True"
    assert "FusedSGD" in lines
    assert steps_of(lines) == 4 * [*STEP, *STEP, "FusedClipNorm", "optimizer step", "mark_step"]


def test_two_ranks_let_habanas_helper_register_hccl_first(on_hpu: Path, images: Path) -> None:
    ranks = train(on_hpu, images, 2, "--autocast", "--optimizer", "adamw", "--train_batch_size", "4")
    assert [rank.code for rank in ranks] == [0, 0], ranks
    for rank in (0, 1):
        lines = calls(on_hpu, rank)
        assert lines.index("initialize_distributed_hpu") < lines.index("autocast hpu torch.bfloat16")
        assert "FusedAdamW eps=1e-08" in lines
        assert steps_of(lines) == 4 * [*STEP, "FusedClipNorm", "optimizer step", "mark_step"]


def test_eager_mode_marks_nothing_and_may_compile(on_hpu: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "0")
    result = train(on_hpu, images, 1, "--compile", "--num_steps", "2")[0]
    assert result.code == 0, result.err
    assert "GAUDI in eager mode (PT_HPU_LAZY_MODE=0)" in result.err
    lines = calls(on_hpu)
    assert "hpu_backend compiles" in lines
    assert "mark_step" not in lines


def test_compiling_in_lazy_mode_is_refused_with_the_fix(on_hpu: Path, images: Path) -> None:
    result = train(on_hpu, images, 1, "--compile")[0]
    assert result.code == 2
    assert "--compile: works on HPU without lazy mode only, and PT_HPU_LAZY_MODE=1, set" in result.err


def test_auto_takes_the_card_and_the_module_counts_eight(on_hpu: Path) -> None:
    program = (
        "from vit.runtime.devices import *; d = open_device('auto', Ranks()); print(d.kind, d.backend, d.ddp_options())"
    )
    environment = clean_environment()
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, text=True, capture_output=True)
    options = "{'gradient_as_bucket_view': True, 'broadcast_buffers': False, 'bucket_cap_mb': 256}"
    assert done.stdout == f"hpu hccl {options}\n", done.stderr
    counted = [sys.executable, "-m", "vit.runtime.devices", "hpu"]
    assert subprocess.run(counted, env=environment, cwd=ROOT, text=True, capture_output=True).stdout == "8\n"


def test_another_world_of_habanas_helper_is_refused(on_hpu: Path) -> None:
    program = "from vit.runtime.hpu import *; HpuDevice(Ranks(world_size=3)).prepare_distributed()"
    environment = {**clean_environment(), "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, text=True, capture_output=True)
    assert "Habana's helper sees 2 ranks, the environment says 3" in done.stderr


def test_the_ten_minute_proof_runs_and_tells_what_it_saw(on_hpu: Path) -> None:
    environment = {**clean_environment(), "PROVE_OUTPUT": str(on_hpu / "out"), "PYTHON": sys.executable}
    small = "--model_type tiny --img_size 16 --train_batch_size 8 --num_workers 1 --num_steps 10 --eval_every 10"
    environment |= {"PROVE_LARGE": small, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{STAND_IN}"
    done = subprocess.run(
        [ROOT / "scripts/prove-hpu", "1"], env=environment, text=True, capture_output=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (on_hpu / "out/prove-hpu.txt").read_text().splitlines()
    assert [line.split(":")[0].split()[0] for line in lines] == ["ok"] * 5
    assert "8 cards answer" in done.stdout
    assert "resumed after step 10: the losses are those of the run uncut to 0.0e+00" in done.stdout


assert FLAGS[FLAGS.index("--num_workers") + 1] == "0", "loader processes would write down calls too"
