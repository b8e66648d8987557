"""Tiny images, and the trainer run in this process."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vit.running import FLAGS, Result


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of 3 classes: 48 training images and 13 for validation (odd, so no rank count divides it)."""
    image, np = pytest.importorskip("PIL.Image"), pytest.importorskip("numpy")
    root, random = tmp_path_factory.mktemp("images"), np.random.RandomState(0)
    for part, count in (("train", 48), ("val", 13)):
        for number in range(count):
            folder = root / part / f"class_{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.randint(0, 128, (16, 16, 3)).astype("uint8") + np.uint8(60 * (number % 3))
            image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return root


@pytest.fixture
def here(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Run the trainer in this process; later flags win. Signal handlers and logging are put back."""
    torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    from vit.train import main

    handlers, loggers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}, logging.root.handlers[:]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the trainer then leaves torch's threads alone
    torch.set_num_threads(1)

    def run(*flags: str) -> Result:
        code = main([*FLAGS, "--data_path", str(images), "--output_dir", str(tmp_path), *flags])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    yield run
    logging.captureWarnings(False)
    logging.root.handlers[:] = loggers
    for number, handler in handlers.items():
        signal.signal(number, handler)
