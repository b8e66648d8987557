# SPDX-License-Identifier: Apache-2.0
"""Real processes, files and signals. A file that never answers is a FIFO that nobody writes to."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, ROOT, Result, clean_environment, start_ranks  # noqa: E402  # after the skip
from vit.config import Config  # noqa: E402
from vit.data.batches import Batch, Batches, open_data  # noqa: E402
from vit.data.loader import Loader, open_loader  # noqa: E402
from vit.data.sampler import PADDING, Key, MicroBatches, TrainOrder  # noqa: E402
from vit.data.shared_memory import Layout  # noqa: E402
from vit.errors import DataError  # noqa: E402
from vit.runtime.cuda import CudaDevice  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402
from vit.training.setup import num_loader_workers  # noqa: E402

EVERYTHING: dict[str, Any] = {"augment": "inception", "aa": "rand-m9-inc1"}
V1_AND_V2 = (
    {"cpu/cpu.cfs_quota_us": "9500000\n", "cpu/cpu.cfs_period_us": "100000\n", "cpuset/cpuset.cpus": "0-95\n"},
    {"cpu.max": "9500000 100000\n", "cpuset.cpus.effective": "0-95\n"},
)
"""What a container of 95 CPUs sees."""
NUM_FAULTS = int(os.environ.get("LOADER_FAULTS", "4"))
SEED = int(os.environ.get("LOADER_SEED", "0"))
KEYS = [[(epoch, (7 * step + place) % 48) for place in range(6)] for epoch in (0, 1) for step in range(7)]


@pytest.fixture
def copy(images: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images, tmp_path / "copy"))


def train_batches(root: Path, **changes: Any) -> Batches:
    flags: dict[str, Any] = {"dataset": "imagefolder", "model_type": "tiny", "img_size": 16, **changes}
    train = open_data(Config(data_path=str(root), **flags)).train
    assert train is not None
    return train


def load(
    batches: Batches, keys: list[list[Key]], num_workers: int, context: str = "fork", seconds: float = 60
) -> Iterator[Batch]:
    device = Device(Ranks())
    device.worker_context = context
    return open_loader(batches, keys, device, num_workers=num_workers, read_timeout_seconds=seconds)


def told(batches: Iterator[Batch]) -> list[tuple[bytes, list[int], tuple[str, ...]]]:
    """All that a batch says, taken while it may be used."""
    return [(batch.images.numpy().tobytes(), batch.labels.tolist(), batch.damaged) for batch in batches]


@pytest.mark.parametrize("more", [EVERYTHING, {**EVERYTHING, "reprob": 0.5}])
def test_any_number_of_processes_gives_the_batches_of_one(copy: Path, more: dict[str, Any]) -> None:
    for name in ("000", "012"):  # both in the first batch, in different pieces
        (copy / f"train/class_0/{name}.png").write_bytes(b"no image")
    batches = train_batches(copy, **more)
    wanted = told(map(batches.batch, KEYS))
    assert len(wanted[0][2]) == 2
    for num_workers in (0, 1, 2, 3):
        assert told(load(batches, KEYS, num_workers)) == wanted, num_workers


def test_processes_that_are_not_forked_give_them_too(images: Path) -> None:
    batches = train_batches(images, **EVERYTHING)
    loader = load(batches, KEYS, 2, "forkserver")
    first = told(itertools.islice(loader, 1))
    stat = Path(f"/proc/{multiprocessing.active_children()[0].pid}/stat").read_text()
    server = Path("/proc") / stat.rpartition(")")[2].split()[1]
    assert "libtorch" in (server / "maps").read_text(), "torch is imported once, not by each process"
    assert b"TORCH_DEVICE_BACKEND_AUTOLOAD=0" in (server / "environ").read_bytes(), "nor the card's software"
    assert first + told(loader) == told(map(batches.batch, KEYS))


def test_padding_and_damaged_validation_images_are_black_also_in_a_slot_that_was_used_before(copy: Path) -> None:
    val = open_data(Config(dataset="imagefolder", model_type="tiny", img_size=16, data_path=str(copy))).val
    (copy / "val/class_0/003.png").write_bytes(b"no image")
    keys = [*([[(0, 2), (0, 3)]] * 9), [(0, 1), PADDING]]
    last = told(load(val, keys, 1))[-1]
    assert last[:2] == (bytes(2 * 16 * 16 * 3), [-1, -1])
    assert len(last[2]) == 1


@pytest.mark.parametrize("start_step", [0, 1, 5, 6, 11])
def test_a_resume_at_any_step_gives_the_batches_that_were_left(images: Path, start_step: int) -> None:
    batches = train_batches(images, **EVERYTHING)

    def keys(start: int) -> list[list[Key]]:
        order = TrainOrder(seed=3, num_images=48, global_batch=8)
        return list(MicroBatches(order=order, rank=1, world_size=2, accumulation=2, start_step=start, num_steps=12))

    assert told(load(batches, keys(start_step), 2)) == told(load(batches, keys(0), 3))[2 * start_step :]


def test_no_more_is_decoded_ahead_than_the_ring_holds(images: Path) -> None:
    batches = load(train_batches(images), KEYS, 2)
    next(batches)
    workers = batches.gi_frame.f_locals["loader"]._workers  # type: ignore[attr-defined]
    slots = workers.ring.layout.num_slots
    end = time.monotonic() + 20
    while workers.ring.reading[:, 0].sum() < slots * 6 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert workers.ring.reading[:, 0].sum() == slots * 6 < len(KEYS) * 6
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_the_memory_of_a_ring_is_bounded_and_its_pieces_fit_a_pipe() -> None:
    usual = Layout(batch_size=64, side=384, kind="uint8", num_workers=10)
    assert (usual.num_slots, usual.num_bytes) == (5, 5 * 64 * (384 * 384 * 3 + 8 + 16) + 160)
    for batch_size in (1, 2, 8, 64, 1000, 8192):
        for num_workers in (1, 2, 16):
            layout = Layout(batch_size=batch_size, side=1, kind="uint8", num_workers=num_workers)
            pieces = layout.num_slots * -(-batch_size // layout.piece)
            assert pieces <= 4096 // 12, (batch_size, num_workers)  # the least that Linux gives a pipe


def stuck(root: Path) -> Path:
    """A training image that never answers."""
    path = root / "train/class_1/004.png"
    path.unlink()
    os.mkfifo(root / "silent")
    path.symlink_to(root / "silent")  # a pipe itself is skipped by name; a link is opened to see what it is
    return path


def test_a_file_that_does_not_answer_is_exit_8_with_its_name(here: Callable[..., Result], copy: Path) -> None:
    path = stuck(copy)
    flags = ["--num_workers", "2", "--read_timeout_seconds", "2", "--num_steps", "20"]
    result = here("--name", "a", "--data_path", str(copy), *flags)
    assert result.code == 8
    expected = "has not been read after 2 s, look at the storage of --data_path, or raise --read_timeout_seconds"
    assert result.err.splitlines()[-1] == f"vit.train: {path}: {expected}"


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_process_that_is_killed_is_told_with_the_file_it_had_in_hand(copy: Path) -> None:
    path = stuck(copy)
    batches = train_batches(copy)
    index = next(i for i in range(48) if batches.source.where(i) == str(path))
    loader = load(batches, [[(0, 0), (0, 1)], [(0, index), (0, 3)]], 1)
    next(loader)
    workers = loader.gi_frame.f_locals["loader"]._workers  # type: ignore[attr-defined]
    wait_until(lambda: workers.ring.reading[0, 1] == index)
    os.kill(workers.processes[0].pid, signal.SIGKILL)
    with pytest.raises(DataError) as caught:
        next(loader)
    assert str(caught.value) == (
        f"{path}: the process that decoded it died (signal 9 (Killed)), "
        "give the pod more memory or lower --num_workers; or find out who killed it"
    )
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("seed", range(SEED, SEED + NUM_FAULTS))
def test_whatever_happens_to_a_process_ends_in_the_batches_or_in_one_line(images: Path, seed: int) -> None:
    """One of 1 to 3 processes is killed, ended or stopped for good at a random moment."""
    choice = random.Random(seed)
    number, moment = choice.choice([signal.SIGKILL, signal.SIGALRM, signal.SIGSTOP]), choice.uniform(0, 0.1)
    batches = train_batches(images, augment="inception")
    wanted, found = told(map(batches.batch, KEYS)), []
    loader = load(batches, KEYS, choice.randint(1, 3), seconds=1)
    found += told(itertools.islice(loader, 1))
    process = choice.choice(multiprocessing.active_children())
    fault = threading.Timer(moment, lambda: process.is_alive() and os.kill(process.pid, number))  # type: ignore[arg-type]
    fault.start()
    end = ""
    try:
        for one in loader:
            found += told(iter([one]))
            time.sleep(0.005)  # or they are done before anything happens
    except DataError as error:
        end = str(error)
    assert re.search(r"died \(signal (9|14) |has not been read after 1 s", end) if end else len(found) == len(wanted)
    assert found == wanted[: len(found)]
    fault.join()
    assert not multiprocessing.active_children()


def test_signals_that_reach_the_whole_group_leave_the_processes_to_the_rank(images: Path) -> None:
    batches = load(train_batches(images), KEYS, 2)
    next(batches)
    for process in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            os.kill(process.pid, number)  # type: ignore[arg-type]
    assert len(list(batches)) == len(KEYS) - 1


def test_a_mistake_of_ours_in_a_process_is_shown_with_its_source(
    here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vit.data.datasets.FolderSource.label", lambda self, index: 1 // 0)
    result = here("--name", "a", "--num_workers", "2")
    assert result.code == 70
    assert "in a loader process:" in result.err
    assert "lambda self, index: 1 // 0" in result.err


def children_of(pid: int) -> list[int]:
    """Processes that `pid` started, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(path.parent.name), *children_of(int(path.parent.name))]
    return found


def test_they_end_when_the_rank_is_killed_also_in_the_midst_of_a_read(copy: Path, tmp_path: Path) -> None:
    stuck(copy)
    flags = ["--data_path", str(copy), "--output_dir", str(tmp_path), "--name", "a", "--num_workers", "3"]
    rank = start_ranks(1, *flags, "--num_steps", "20")[0]
    wait_until(lambda: len(children_of(rank.pid)) == 3)
    time.sleep(0.5)  # until one of them has the FIFO in hand
    processes = children_of(rank.pid)
    os.kill(processes[-1], signal.SIGSTOP)  # it cannot see the end of the rank
    rank.kill()
    rank.communicate(timeout=60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), 20)


def test_a_stop_of_the_whole_group_saves_and_ends_with_143(images: Path, tmp_path: Path) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a", "--num_workers", "2"]
    rank = subprocess.Popen(
        [sys.executable, "-m", "vit.train", *FLAGS, *flags, "--num_steps", "100000"],
        cwd=ROOT,
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (tmp_path / "a/metrics.jsonl").exists())
    os.killpg(rank.pid, signal.SIGTERM)
    _, err = rank.communicate(timeout=60)
    assert rank.returncode == 143, err
    assert "stopped as asked after step" in err


SMALL_SHM = "mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "


def test_a_pod_without_shared_memory_is_enough(images: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own, with a /dev/shm of 4 KiB."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may mount")
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a", "--num_workers", "2"]
    words = " ".join([sys.executable, "-m", "vit.train", *FLAGS, *flags, "--train_batch_size", "24"])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SMALL_SHM + words],
        cwd=ROOT,
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    words = r"2 processes per rank, up to 4 batches of 24 images decoded ahead, in [\d.]+ KiB of shared memory"
    assert re.search(words, done.stderr), done.stderr
    assert done.stdout.splitlines()[-1].startswith("step=12/12 ")


def test_a_system_that_gives_no_such_memory_is_one_line(images: Path) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from tests.unit.vit.data.test_loader import *\n"
        "try: next(load(train_batches(Path(sys.argv[1])), KEYS, 2))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", program, str(images)]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), text=True, capture_output=True, timeout=120)
    expected = "2, but this system does not give their memory or start them (File too large), give fewer; 0 decodes"
    assert done.stdout == f"ConfigError --num_workers: {expected} in the main process\n", done.stderr


class Runtime:
    """A stand-in for torch.cuda.cudart(), for want of a GPU: what was asked of it."""

    def __init__(self, code: int) -> None:
        self.code, self.calls = code, list[tuple[Any, ...]]()

    def cudaHostRegister(self, pointer: int, num_bytes: int, flags: int) -> int:  # CUDA's name
        self.calls.append(("lock", pointer, num_bytes, flags))
        return self.code

    def cudaHostUnregister(self, pointer: int) -> int:
        self.calls.append(("unlock", pointer))
        return 0


@pytest.mark.parametrize("code", [0, 1])
def test_for_cuda_the_whole_ring_is_page_locked_while_it_is_used(
    images: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    runtime = Runtime(code)
    monkeypatch.setattr("torch.cuda.cudart", lambda: runtime)
    device = CudaDevice.__new__(CudaDevice)  # its constructor wants a GPU
    device.torch_device, device.copies = torch.device("cpu"), SimpleNamespace(synchronize=lambda: None)
    loader = open_loader(train_batches(images), KEYS, device, num_workers=1, read_timeout_seconds=60)
    images_at = next(loader).images.data_ptr()
    (lock,) = runtime.calls
    assert lock[1] % 4096 == 0
    assert lock[1] < images_at < lock[1] + lock[2]
    assert len(list(loader)) == len(KEYS) - 1
    assert runtime.calls[1:] == ([] if code else [("unlock", lock[1])])


@pytest.mark.parametrize("files", V1_AND_V2)
@pytest.mark.parametrize(("num_ranks", "num_workers"), [(1, 16), (8, 10), (48, 0), (95, 0), (200, 0)])
def test_processes_follow_from_the_containers_cpus_not_from_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], num_ranks: int, num_workers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 96)  # stands in for a machine of Voyager's size
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(96)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    ranks = Ranks(world_size=num_ranks, local_size=num_ranks)
    assert num_loader_workers(Config(), ranks, tmp_path) == num_workers
    assert num_loader_workers(Config(num_workers=3), ranks, tmp_path) == 3


def of_processes(batches: Batches, num_workers: int) -> Loader:
    return Loader(batches, Device(Ranks()), num_workers=num_workers, read_timeout_seconds=60)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_processes_read_one_list_of_keys_after_the_other(images: Path, num_workers: int) -> None:
    batches = train_batches(images, **EVERYTHING)
    loader = of_processes(batches, num_workers)
    seen = []
    for keys in (KEYS, KEYS[3:], [], KEYS[:2]):
        loader.start(keys)
        assert told(loader.read()) == told(map(batches.batch, keys))
        assert not loader.started
        seen.append({process.pid for process in multiprocessing.active_children()})
    assert len(seen[0]) == num_workers
    assert seen == seen[:1] * 4
    loader.close()
    assert not multiprocessing.active_children()


def test_the_first_batches_are_decoded_before_they_are_asked_for(images: Path) -> None:
    batches = train_batches(images, **EVERYTHING)
    loader = of_processes(batches, 1)
    loader.start(KEYS)
    ring = loader._workers.ring  # type: ignore[union-attr]  # started
    wait_until(lambda: ring.reading[0, 0] == sum(len(keys) for keys in KEYS[: ring.layout.num_slots]))
    assert told(loader.read()) == told(map(batches.batch, KEYS))
    loader.close()


def test_processes_that_died_between_two_lists_are_replaced(images: Path) -> None:
    batches = train_batches(images, **EVERYTHING)
    loader = of_processes(batches, 2)
    loader.start(KEYS)
    told(loader.read())
    (killed, *_) = multiprocessing.active_children()
    killed.kill()
    killed.join()
    loader.start(KEYS)
    assert told(loader.read()) == told(map(batches.batch, KEYS))
    loader.close()
