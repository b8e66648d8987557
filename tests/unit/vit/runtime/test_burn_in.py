# SPDX-License-Identifier: Apache-2.0
"""The test of the devices before step 1: what is wrong ends the job, what is slow is named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import finish, start_ranks  # noqa: E402  # after the skip
from vit.errors import DeviceError  # noqa: E402
from vit.runtime.burn_in import SLOW, Found, burn_in, judge  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.distributed import Group  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402
from vit.supervise.watchdog.scores import THRESHOLD  # noqa: E402


def found(host: str, matmul: float, memory: float = 100.0, wrong: tuple[str, ...] = ()) -> Found:
    return Found(host, {"matmul": matmul, "memory": memory}, wrong)


def test_slow_ranks_are_named_with_their_nodes_and_equal_ones_are_not() -> None:
    fault, slow = judge([found("a", 10.0), found("a", 9.9), found("b", 5.0), found("b", 10.1, memory=60.0)])
    assert not fault
    assert slow == [
        "rank 2 on b is slow in the burn-in: matmul 5 TFLOP/s, 0.50 of the median",
        "rank 3 on b is slow in the burn-in: memory 60 GB/s, 0.60 of the median",
    ]
    assert judge([found("a", 10.0), found("b", 8.0)]) == ("", [])
    assert SLOW == THRESHOLD, "slow in the burn-in is slow in training"


def test_all_that_is_wrong_is_named_up_to_a_limit() -> None:
    fault, _ = judge([found("a", 1.0), found("b", 1.0, wrong=("matrix product", "all-reduce"))])
    assert fault == "rank 1 on b: wrong matrix product, all-reduce"
    fault, _ = judge([found("a", 1.0, wrong=("all-reduce",))] * 336)
    assert fault.count("rank ") == 8
    assert fault.endswith("; 328 more ranks")


def alone() -> tuple[Device, Group]:
    device = Device(Ranks())
    return device, Group(Ranks(), device, timeout_seconds=60)


def test_a_sound_device_says_its_speed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        burn_in(0.1, *alone())
    (line,) = caplog.messages
    assert line.startswith("burn-in of 0.1 s on 1 ranks: matmul ")
    assert " TFLOP/s, memory " in line


def test_one_wrong_bit_in_one_of_many_products_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged with a matmul that flips one bit of one number, once: no device here does that by itself."""
    real, calls = torch.matmul, []

    def faulty(*operands: Any, out: Any) -> Any:
        real(*operands, out=out)
        calls.append(out)
        if len(calls) == 2:
            out.view(torch.int32)[7, 7] ^= 1 << 23
        return out

    monkeypatch.setattr(torch, "matmul", faulty)
    with pytest.raises(DeviceError) as raised:
        burn_in(0.1, *alone())
    assert len(calls) >= 3
    assert raised.value.exit_code == 11
    assert "rank 0 on " in raised.value.what
    assert "wrong matrix product" in raised.value.what


def test_two_ranks_test_each_other_before_step_1_and_train(images: Path, tmp_path: Path) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--burn_in_seconds", "1"]
    ranks = finish(start_ranks(2, *flags))
    assert [rank.code for rank in ranks] == [0, 0], ranks
    assert "burn-in of 1 s on 2 ranks: matmul " in ranks[0].err
    assert "burn-in" not in ranks[1].err


def test_a_wrong_sum_over_two_ranks_ends_both_with_11(images: Path, tmp_path: Path) -> None:
    """A sitecustomize in place of a broken network: the sum that rank 1 sees is one too large."""
    broken = (
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import torch.distributed as dist\n"
        "    real = dist.all_reduce\n"
        "    def all_reduce(values, *more, **named):\n"
        "        found = real(values, *more, **named)\n"
        "        if values.numel() > 1 << 20:\n"
        "            values[5] += 1\n"
        "        return found\n"
        "    dist.all_reduce = all_reduce\n"
    )
    (tmp_path / "sitecustomize.py").write_text(broken)
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path / "out"), "--burn_in_seconds", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPIKIT_TEST_PATH", str(tmp_path))
        ranks = finish(start_ranks(2, *flags))
    assert [rank.code for rank in ranks] == [11, 11], ranks
    assert "vit.train: burn-in: rank 1 on " in ranks[0].err
    assert "wrong all-reduce, look at that node's device" in ranks[0].err
