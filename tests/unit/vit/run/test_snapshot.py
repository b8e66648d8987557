# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import faulthandler
import io
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.standin.cuda import RecordingCuda  # noqa: E402
from vit.run.snapshot import Snapshot, memory_left, on_cpu  # noqa: E402
from vit.runtime.cuda import CudaDevice  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402


def content() -> dict[str, Any]:
    """What an optimizer's state has: tensors of several types and layouts, numbers, lists, None."""
    torch.manual_seed(0)
    planes = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    return {
        "state": {0: {"momentum": torch.randn(33, 7), "step": torch.tensor(3.0)}, 1: {"momentum": None}},
        "weights": {"planes": planes, "turned": torch.randn(5, 9).t(), "none": torch.empty(0, 4)},
        "flags": [torch.tensor([True, False]), torch.arange(3, dtype=torch.int64), torch.ones(3, dtype=torch.bfloat16)],
        "param_groups": [{"lr": 0.1, "params": [0, 1]}],
    }


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_copy_is_saved_as_the_same_bytes_and_later_changes_do_not_reach_it() -> None:
    live = content()
    expected = saved(on_cpu(live))
    copy, wait = Snapshot(Device(Ranks())).take(live)
    live["state"][0]["momentum"].zero_()
    live["weights"]["planes"].add_(1)
    live["param_groups"][0]["lr"] = 0.2
    wait()
    assert saved(copy) == expected


def test_the_memory_is_used_again_and_follows_a_change_of_shape() -> None:
    snapshot, live = Snapshot(Device(Ranks())), content()
    snapshot.prepare(live)()
    first, _ = snapshot.take(live)
    live["state"][0]["momentum"].fill_(2)
    second, _ = snapshot.take(live)
    assert first["state"][0]["momentum"].data_ptr() == second["state"][0]["momentum"].data_ptr()
    live["state"][1]["momentum"] = torch.ones(1000)
    third, _ = snapshot.take(live)
    assert torch.equal(third["state"][1]["momentum"], torch.ones(1000))
    assert torch.equal(third["weights"]["turned"], live["weights"]["turned"])


def test_a_forked_process_does_not_get_the_memory() -> None:
    snapshot = Snapshot(Device(Ranks()))
    copy, _ = snapshot.take({"w": torch.ones(100_000)})
    child = os.fork()
    if not child:
        faulthandler.disable()  # its report of the expected end would confuse
        with contextlib.suppress(BaseException):
            copy["w"].sum()  # not mapped: the kernel ends the child
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) < 0


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> RecordingCuda:
    """Torch's CUDA without a GPU: tensors stay on the CPU, and what is asked of streams is written down."""
    return RecordingCuda.installed(monkeypatch)


def test_cuda_copies_by_its_own_stream_and_only_changes_wait_for_it(cuda: RecordingCuda) -> None:
    device = CudaDevice(Ranks())
    cuda.asked.clear()
    place, tensor = torch.zeros(3), torch.ones(3)
    wait = device.copy_to_host([(place, tensor)])
    assert cuda.asked == ["saves waits for current", "enter saves", "leave saves", "saves records e1"]
    device.hold_changes()
    device.hold_changes()
    assert cuda.asked[4:] == ["current waits for e1"]
    wait()
    assert cuda.asked[5:] == ["set device cuda:0", "host waits for e1"]
    assert torch.equal(place, tensor)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 7\ninactive_file 50\n"}, 150),
        ({"memory.max": "max", "memory.current": "900", "memory.stat": "inactive_file 50\n"}, None),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "1001",
                "memory/memory.stat": "total_inactive_file 0\n",
            },
            0,
        ),
        ({}, None),
    ],
)
def test_memory_that_the_container_has_left(tmp_path: Path, files: dict[str, str], left: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_left(tmp_path) == left


def test_a_copy_that_the_container_has_no_room_for_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.run.snapshot.memory_left", lambda: 2**20)
    with pytest.raises(OSError, match="the container has 1 MiB left, 4 MiB are needed"):
        Snapshot(Device(Ranks())).take({"w": torch.ones(2**20)})
