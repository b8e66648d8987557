# SPDX-License-Identifier: Apache-2.0
"""Failures that are not bugs, driven through the command line: the documented exit code, one line, no traceback."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
np = pytest.importorskip("numpy")

from tests.support.running import FLAGS, ROOT, Result, clean_environment, free_port  # noqa: E402  # after the skip
from vit.config import parse_args  # noqa: E402
from vit.packages import optional_package  # noqa: E402
from vit.runtime.failures import finer_accumulation, name_failure  # noqa: E402

Here = Callable[..., Result]
SYNTHETIC = shlex.split("--dataset synthetic --synthetic_images 32 --synthetic_classes 3 --num_steps 2 --log_every 1")


def check(result: Result, code: int, *words: str) -> None:
    """The code, each of the words on stderr, and nothing that only a developer can read."""
    assert result.code == code, result.err[-2000:]
    for word in words:
        assert word in result.err
    for sign in ("Traceback", "Error:", "None", "<class"):
        assert sign not in result.err, result.err[-2000:]


def process(*words: str, before: Callable[[], None] | None = None, cwd: Path = ROOT, **environment: str) -> Result:
    """A module in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env={**clean_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment},
        preexec_fn=before,
        text=True,
        errors="surrogateescape",
        capture_output=True,
        timeout=300,
    )
    return Result(done.returncode, done.stdout, done.stderr)


# Memory


class OutOfMemoryError(RuntimeError):
    """A stand-in for torch.OutOfMemoryError, which only a card raises; recognised by its name."""


FULL: list[tuple[str, Exception]] = [
    ("card", OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")),
    ("card", RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")),
    ("card", RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    ("card", RuntimeError("[Rank:0] FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::40943616 (39.04)MB")),
    ("host", RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")),
    ("host", RuntimeError("std::bad_alloc")),
    ("host", MemoryError()),
    ("host", OSError(12, "Cannot allocate memory")),
]


@pytest.mark.parametrize(("where", "error"), FULL, ids=[repr(error)[:60] for _, error in FULL])
def test_full_memory_names_the_batch_accumulation_and_checkpointing(
    here: Here, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    monkeypatch.setattr("vit.training.loop.training_loss", raising(error))
    words = (f"vit.train: memory: the {where}'s memory is", "with 4 images at once on a rank (--train_batch_size 8, ")
    fixes = ("set --gradient_accumulation_steps 4 (the same global batch)", "set --grad_checkpointing")
    check(here("--name", "a", *SYNTHETIC, "--gradient_accumulation_steps", "2"), 2, *words, *fixes)


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*arguments: object, **named: object) -> Any:
        raise error

    return function


def test_full_memory_in_an_evaluation_names_its_batch(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.training.evaluation.count", raising(OutOfMemoryError("out of memory")))
    check(here("--name", "a", *SYNTHETIC), 2, "in an evaluation with 4 images at once", "lower --eval_batch_size")


def test_full_memory_is_an_event_of_the_run(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vit.training.loop.training_loss", raising(MemoryError()))
    here("--name", "a", *SYNTHETIC)
    assert '"event": "error"' in (tmp_path / "a/events.jsonl").read_text().splitlines()[-1]


def test_full_memory_in_a_loader_process_is_named_too(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.data.sources.SyntheticSource.image", raising(MemoryError()))
    check(here("--name", "a", *SYNTHETIC, "--num_workers", "1"), 2, "the host's memory is used up")


# The first is more than an address has bits for: less may be promised, and then used up.
@pytest.mark.parametrize("flags", [("--img_size", "40000000"), ("--synthetic_images", "1000000000000000000")])
def test_what_no_machine_has_the_memory_for_is_exit_2(here: Here, flags: tuple[str, str]) -> None:
    check(here("--name", "a", *SYNTHETIC, *flags), 2, "memory: the host's memory is used up (", "more were needed)")


def test_too_little_address_space_for_torch_itself_is_exit_2(tmp_path: Path) -> None:
    limit = 500 * 2**20
    flags = [*FLAGS, *SYNTHETIC, "--data_path", "/", "--output_dir", str(tmp_path), "--name", "a"]
    lowered = lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # noqa: E731
    check(process("vit.train", *flags, before=lowered), 2, "memory: the host's memory is used up")


def config(*flags: str) -> Any:
    return parse_args([*FLAGS, "--data_path", "/", "--output_dir", "/", "--name", "a", *flags])


def test_the_advised_accumulation_is_one_that_the_flags_allow() -> None:
    for batch in range(2, 65, 2):
        for mixup in ("0", "0.2"):
            flags = ["--train_batch_size", str(batch), "--mixup", mixup]
            found = finer_accumulation(config(*flags))
            if found is not None:
                config(*flags, "--gradient_accumulation_steps", str(found))
    assert finer_accumulation(config("--train_batch_size", "7", "--gradient_accumulation_steps", "7")) is None


def test_a_bug_is_still_exit_70_with_its_traceback(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.training.loop.training_loss", raising(KeyError("bug")))
    result = here("--name", "a", *SYNTHETIC)
    assert result.code == 70
    assert "Traceback" in result.err
    for bug in (ValueError("x"), IndexError(), RecursionError(), AssertionError(), RuntimeError("shape mismatch")):
        assert name_failure(bug) is None


# Limits


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(24, "Too many open files"), 2, "limits: this process cannot open more files"),
        (OSError(23, "Too many open files in system"), 2, "ulimit -n"),
        (BlockingIOError(11, "Resource temporarily unavailable"), 2, "cannot start more processes or threads"),
        (RuntimeError("can't start new thread"), 2, "ulimit -u"),
        (OSError(27, "File too large", "/some/file"), 7, "/some/file: may not grow further"),
        (OSError(5, "Input/output error", "/some/file"), 7, "/some/file: cannot be read or written (Input/output"),
        (PermissionError(13, "Permission denied", "{data}/x.png"), 8, "x.png: cannot be read or written (Perm"),
        (OSError(28, "No space left on device", "/tmp/x"), 7, "/tmp/x: cannot be read or written (No space"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_limit_of_the_system_is_named(
    here: Here, images: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, words: str
) -> None:
    if getattr(error, "filename", None):
        error.filename = str(error.filename).replace("{data}", str(images))
    monkeypatch.setattr("vit.training.loop.training_loss", raising(error))
    check(here("--name", "a", *SYNTHETIC), code, words)


def test_the_real_limit_of_open_files_is_named(tmp_path: Path) -> None:
    flags = [*FLAGS, *SYNTHETIC, "--data_path", "/", "--output_dir", str(tmp_path), "--name", "a"]
    lowered = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))  # noqa: E731
    check(process("vit.train", *flags, "--num_workers", "40", before=lowered), 2, "Too many open files")


# Ranks


RANKS = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MASTER_PORT", "abc", 'MASTER_PORT: "abc" is not a whole number'),
        ("MASTER_PORT", "999999", "MASTER_PORT: 999999 is not a port, give a number from 1 to 65535"),
        ("MASTER_PORT", "-1", "MASTER_PORT: -1 is not a port"),
        ("LOCAL_WORLD_SIZE", "0", "LOCAL_WORLD_SIZE: 0 is not a number of ranks"),
    ],
)
def test_a_wrong_variable_of_a_rank_is_exit_2(
    here: Here, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    for name, text in {**RANKS, variable: value}.items():
        monkeypatch.setenv(name, text)
    check(here("--name", "a", *SYNTHETIC), 2, words)


def test_a_port_in_use_is_named(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(free_port())))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, text in {**RANKS, "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, text)
        check(
            here("--name", "a", *SYNTHETIC),
            2,
            f"MASTER_PORT: {port} is already in use on this host, set MASTER_PORT to",
        )


# Packages


BROKEN = {
    "ImportError": "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
    "OSError": "raise OSError('libjpeg.so.8: cannot open shared object file')",
    "AttributeError": "import numpy; numpy.no_such_name",
    "ModuleNotFoundError": "import no_such_dependency",
    "SystemExit": "raise SystemExit(1)",
    "half installed": "",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put packages that raise on import before the real ones."""
    from vit.images.jpeg import decoder
    from vit.images.resize import has_opencv

    caches = (optional_package, decoder, has_opencv)

    def put(names: tuple[str, ...], text: str) -> None:
        for name in names:
            (tmp_path / "broken" / name).mkdir(parents=True)
            (tmp_path / "broken" / name / "__init__.py").write_text(text + "\n")
            for module in [known for known in sys.modules if known.partition(".")[0] == name]:
                monkeypatch.delitem(sys.modules, module)
        for module in [known for known in sys.modules if known.startswith("torch.utils.tensorboard")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.syspath_prepend(str(tmp_path / "broken"))
        for cache in caches:
            cache.cache_clear()

    yield put
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_optional_package_is_one_warning_and_the_run_goes_on(
    here: Here, broken: Callable[..., None], text: str
) -> None:
    names = ("simplejpeg", "cv2", "tensorboard")
    broken(names, text)
    result = here("--name", "a", "--num_workers", "1")
    check(result, 0, "JPEG decoded by")
    for name in names:
        assert result.err.count(f"warning: {name} is installed but cannot be imported (") == 1


def test_a_broken_safetensors_is_refused_only_where_it_is_needed(
    here: Here, broken: Callable[..., None], tmp_path: Path
) -> None:
    broken(("safetensors",), BROKEN["OSError"])
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert here("--name", "a", *SYNTHETIC).code == 0
    result = here("--name", "b", *SYNTHETIC, "--pretrained_dir", str(tmp_path / "w.safetensors"))
    check(result, 2, "this Python has no safetensors that works")


@pytest.mark.parametrize("name", ["torch", "numpy", "PIL"])
def test_a_broken_needed_package_is_exit_2(tmp_path: Path, name: str) -> None:
    for package in {"torch", "numpy", "PIL"}:  # those before it are empty: they cost no time
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(BROKEN["OSError"] if package == name else "")
        (tmp_path / package / "Image.py").write_text("")
    flags = [*FLAGS, *SYNTHETIC, "--data_path", "/", "--output_dir", str(tmp_path), "--name", "a"]
    result = process("vit.train", *flags, PYTHONPATH=f"{tmp_path}:{ROOT}")
    check(result, 2, f"python: {name} of this Python (", "cannot be imported (libjpeg.so.8: cannot open shared object")


# Ctrl-C


@pytest.mark.parametrize("module", ["vit.train", "vit.evaluate", "vit.fetch", "vit.prepare"])
def test_an_interrupt_during_imports_is_exit_130_without_a_word(tmp_path: Path, module: str) -> None:
    slow = "import sys, time\nsys.stdout.write('importing\\n'); sys.stdout.flush()\ntime.sleep(60)\n"
    (tmp_path / "argparse.py").write_text(slow)  # every one of them imports it first of all
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**clean_environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's "&" has it ignored
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "importing\n"
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (130, "")


# What is not finite


def test_an_evaluation_that_is_not_finite_is_exit_5_and_writes_no_number(here: Here, tmp_path: Path) -> None:
    from vit.model.transformer import create_model
    from vit.weights.load import save_npz

    model = create_model("tiny", img_size=16, num_classes=3)
    model.head.bias.data[1] = float("nan")
    save_npz(model, tmp_path / "w.npz")
    result = here("--name", "a", *SYNTHETIC, "--eval_only", "--pretrained_dir", str(tmp_path / "w.npz"))
    check(result, 5, "evaluation: the loss of 3 validation images is not finite")
    assert result.out == ""
    assert not {"metrics.jsonl", "evaluation.json"} & {path.name for path in (tmp_path / "a").iterdir()}


# The run's folder


DAMAGE = {
    "bytes": b'\xff\xfe{"step": 1}\n',
    "half a line": b'{"step": 1, "lo',
    "nesting": b"[" * 100_000 + b"\n",
    "text": b'{"step": "one"}\n[]\nnull\n"step"\n',
    "long number": b'{"step": ' + b"9" * 5000 + b"}\n",
    "nul": bytes(4096),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_lines_are_dropped_and_the_run_goes_on(here: Here, tmp_path: Path, damage: bytes) -> None:
    assert here("--name", "a", *SYNTHETIC).code == 0
    path = tmp_path / "a/metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(damage + b"\n" + whole.splitlines()[0] + b"\n" + damage)
    (tmp_path / "a/events.jsonl").write_bytes(damage)
    check(here("--name", "a", *SYNTHETIC, "--eval_only"), 0)
    (tmp_path / "a/checkpoints").rename(tmp_path / "kept")  # the next one trains, from step 0
    check(here("--name", "a", *SYNTHETIC), 0)
    assert [line.count(b'"step"') for line in path.read_bytes().splitlines()] == [1, 1]


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\n", b"../../x\n", b"\0", b"step_1"])
def test_a_pointer_that_names_no_checkpoint_is_exit_7(here: Here, tmp_path: Path, text: bytes) -> None:
    from vit.run.own import find_own

    assert here("--name", "a", *SYNTHETIC).code == 0
    (tmp_path / "a/best").write_bytes(text)
    with pytest.raises(Exception, match="does not name a checkpoint") as found:
        find_own(tmp_path / "a")
    assert found.value.exit_code == 7  # type: ignore[attr-defined]  # a StorageError


# Names


def test_names_that_are_not_utf_8_are_read_logged_and_named(here: Here, images: Path, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"data\xff")
    for split in ("train", "val"):
        for number, source in enumerate(sorted((images / split).rglob("*.png"))[:12]):
            folder = data / split / os.fsdecode(b"class\xfe" if number % 2 else b"other")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / os.fsdecode(b"%d\xfd.png" % number)).write_bytes(source.read_bytes() if number else b"damaged")
    name = os.fsdecode(b"run\xfc")
    result = here("--name", name, "--data_path", str(data), "--per_class", "--num_steps", "2", "--log_every", "1")
    check(result, 0, "cannot be decoded")
    check(here("--name", name, "--data_path", str(data), "--eval_only", "--num_steps", "2"), 0)
    assert "\\udcfd.png" in (tmp_path / name / "logs/001.log").read_text(encoding="utf-8")


def test_a_removed_current_folder_is_exit_2(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    result = process("vit.train", *FLAGS, cwd=gone, before=gone.rmdir)
    check(result, 2, "current folder: cannot be read (No such file or directory), cd to a folder that exists")


# Bombs


def bomb_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("cls.npy", "w") as member:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**23,)})
        member.write(header.getvalue())
        member.write(bytes(2**25))


def lying_npz(path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cls.npy", header.getvalue())


def nested_npz(path: Path) -> None:
    text = b"(" * 9000 + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cls.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)


def plain_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


NPZ_BOMBS = {
    bomb_npz: "is not accepted: it would unpack to 32 MiB",
    lying_npz: "is an .npz that is cut off or damaged",
    nested_npz: "is an .npz that is cut off or damaged",
    plain_npy: "is a single NumPy array",
}


@pytest.mark.parametrize(("make", "said"), NPZ_BOMBS.items())
def test_a_bomb_among_weights_is_exit_2(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], said: str
) -> None:
    monkeypatch.setattr("vit.weights.npz.LEAST_BOMB", 2**24)
    make(tmp_path / "w.npz")
    result = here("--name", "a", *SYNTHETIC, "--pretrained_dir", str(tmp_path / "w.npz"))
    check(result, 2, f"w.npz: {said}")


PICKLES = {
    "memory": b"cnumpy\nndarray\n(L1000000000000L\ntR.",
    "nesting": b"(" * 10 + b"]" * 10 + b".",
    "deep": b"\x80\x04" + b"]\x94" * 3000 + b"a" * 2999 + b".",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b".",
    "a call": b"cposix\nsystem\n(S'touch ran'\ntR.",
    "list": pickle.dumps([1, 2]),
    "empty": pickle.dumps({}),
    "wrong kinds": pickle.dumps({b"data": {b"x": 1}, b"labels": 3}),
    "stack": b".",
    "memo": b"g7\n.",
    "text": b"\x80\x04X\x02\x00\x00\x00\xff\xff.",
    "int": b"I" + b"9" * 5000 + b"\n.",
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_a_bomb_in_a_pickle_of_images_is_exit_8(here: Here, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(content)
    check(
        here("--name", "a", "--dataset", "cifar10", "--data_path", str(tmp_path)),
        8,
        "does not contain a complete cifar10 (",
    )


def test_a_bomb_in_a_tar_or_gz_of_images_is_exit_8(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.data.cifar_mnist.MOST_BYTES", 2**21)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        info.size = 2**22
        archive.addfile(info, io.BytesIO(bytes(2**22)))
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"{name}-ubyte.gz").write_bytes(gzip.compress(bytes(2**22)))
    for dataset in ("cifar10", "fashion_mnist"):
        result = here("--name", "a", "--dataset", dataset, "--data_path", str(tmp_path))
        check(result, 8, f"does not contain a complete {dataset} (", "unpacks to more than 2 MiB")


def mat(*elements: tuple[int, bytes]) -> bytes:
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    return head + b"".join(element(kind, data) for kind, data in elements)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(0 if kind == 15 else -len(data) % 8)


def struct_array(shape: tuple[int, ...], length: int, names: bytes, fields: bytes) -> bytes:
    flags, dims = element(6, struct.pack("<II", 2, 0)), element(5, struct.pack(f"<{len(shape)}i", *shape))
    return flags + dims + element(1, b"synsets") + element(5, struct.pack("<i", length)) + element(1, names) + fields


def nested_mat() -> bytes:
    """2,000 structs within structs, made from the inside."""
    inner = b""
    for _ in range(2000):
        inner = struct_array((1, 1), 1, b"x", element(14, inner))
    return mat((14, inner))


MATS = {
    "packed": mat((15, zlib.compress(bytes(2**27), 9))),
    "nested": nested_mat(),
    "many structs": mat((14, struct_array((2**30, 2**30), 1, b"", b""))),
    "length 0": mat((14, struct_array((1, 1), 0, b"x", b""))),
    "negative": mat((14, struct_array((-1, 1), -4, b"x", b""))),
    "cut": mat((14, struct_array((1, 1), 1, b"x", b"")))[:-9],
    "cut packed": mat((15, zlib.compress(os.urandom(999))[:-9])),
    "empty": b"",
}


@pytest.mark.parametrize("content", MATS.values(), ids=MATS)
def test_a_bomb_in_a_mat_file_is_exit_8(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes) -> None:
    from vit.prepare.__main__ import main

    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz", compresslevel=1) as archive:
        for name, data in (("meta.mat", content), ("ILSVRC2012_validation_ground_truth.txt", b"1\n")):
            info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"):
        tarfile.open(tmp_path / name, "w").close()
    started = time.monotonic()
    code = main(["imagenet1K", "--from", str(tmp_path), "--to", str(tmp_path / "to")])
    check(Result(code, "", capfd.readouterr().err), 8, "is not a complete development kit of ImageNet 2012 (")
    assert time.monotonic() - started < 60
