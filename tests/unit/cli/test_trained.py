# SPDX-License-Identifier: Apache-2.0
"""predict and export: the trainer's own programs with what the command line says, and a machine without torch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpikit.cli.trained import FORMATS
from tests.conftest import Command

Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in a folder whose name looks like an option."""
    pytest.importorskip("torch", reason="predict and export need torch: pip install torch")
    from tests.support.trained import write_run

    return write_run(tmp_path / "-o", name="my run", model_type="tiny", img_size=16)


def test_predict_prints_what_the_program_does(run: Path, tmp_path: Path, generate_process: Process) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (20, 20), "red").save(tmp_path / "--limit.png")
    words = ("predict", str(run), str(tmp_path), "-o", "json", "--device", "cpu", "--limit", "1", "--attention")
    done = generate_process(*words, "--out", str(tmp_path / "drawn"))
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["image"] == str(tmp_path / "--limit.png")
    assert Path(row["attention"]).exists()
    assert len(row["top5"]) == 5


def test_export_writes_the_folder_and_names_it(run: Path, tmp_path: Path, generate_process: Process) -> None:
    target = tmp_path / "out"
    words = ("export", str(run), "--to", "timm", "--out", str(target), "--license", "mit")
    done = generate_process(*words)
    assert (done.returncode, done.stdout) == (0, f"{target}\n"), done.stderr
    assert "\nlicense: mit\n" in (target / "README.md").read_text()
    again = generate_process(*words)
    assert again.returncode == 1
    assert "or add --force to replace an export" in again.stderr
    assert again.stderr.endswith("  fix: read its last line above\n")
    assert generate_process(*words, "--force").returncode == 0


@pytest.mark.parametrize("words", [("predict", "output/a"), ("export", "output/a", "--to", "hf")])
def test_without_torch_the_error_says_what_to_install(
    words: tuple[str, ...], generate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_torch(name: str, *more: Any) -> Any:
        return None if name == "torch" else found(name, *more)

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", without_torch)
    done = generate(*words)
    assert done.returncode == 1
    assert f"vit.{words[0]} needs PyTorch, and this Python (" in done.stderr
    assert "fix: pip install torch numpy pillow" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("export", "output/a"), "fix: python generate.py export --to timm|hf|onnx|npz"),
        (("export", "output/a", "--to", "keras"), "'keras' is not one of 'timm', 'hf', 'onnx', 'npz'"),
        (("export",), "RUN"),
        (("predict", "output/a", "--limit", "0"), "'--limit'"),
        (("infer", "output/a"), "fix: python generate.py predict"),
    ],
)
def test_wrong_words_are_usage_errors(words: tuple[str, ...], told: str, generate: Command) -> None:
    done = generate(*words)
    assert done.returncode == 2
    assert told in done.stderr


def test_the_formats_are_the_trainers() -> None:
    from vit.export.__main__ import NAMES

    assert FORMATS == NAMES
