# SPDX-License-Identifier: Apache-2.0
"""Tiny images, and the trainer run in this process."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.running import FLAGS, Result, write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of 3 classes: 48 training images and 13 for validation (odd, so no rank count divides it)."""
    return write_images(tmp_path_factory.mktemp("images"), num_train=48)


@pytest.fixture
def here(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Run the trainer in this process; later flags win. Signal handlers and logging are put back."""
    torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    from vit.train import main

    handlers, loggers = (
        {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)},
        logging.root.handlers[:],
    )
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
