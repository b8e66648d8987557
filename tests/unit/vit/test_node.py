# SPDX-License-Identifier: Apache-2.0
"""What setup.sh learns of a node: packages and cards, and when torch is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT, clean_environment
from vit.node import main, seen_cards

NVIDIA = "GPU 0: NVIDIA H100 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-2)\nGPU 1: NVIDIA H100 (UUID: GPU-3)\n"


def ask(*words: str, path: Path | None = None, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT))))}
    command = [sys.executable, *options, "-m", "vit.node", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def broken_torch(folder: Path) -> Path:
    (folder / "torch").mkdir()
    (folder / "torch/__init__.py").write_text("raise OSError('libcudart.so.12: no such file')\n")
    return folder


def check_broken(done: subprocess.CompletedProcess[str]) -> None:
    """One line that names the cause and no traceback."""
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "cannot be imported (libcudart.so.12: no such file)" in line


def test_torch_is_not_imported_where_the_cards_are_seen(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    done = ask("cpu", "1", path=broken_torch(tmp_path))
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert (words[0], words[4]) == ("packages", "cards")
    assert int(words[5]) >= 1


def test_torch_has_the_last_word_where_too_few_are_seen(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    check_broken(ask("cpu", "9999", path=broken_torch(tmp_path)))
    done = ask("cpu", "9999")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("cards ")


def test_before_a_restart_torch_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    check_broken(ask("cpu", "1", "--import", path=broken_torch(tmp_path)))


def test_an_absent_package_is_named() -> None:
    done = ask("cpu", "1", options=("-S",))  # without site-packages
    assert (done.returncode, done.stderr) == (1, "No module named 'torch'\n")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found."""
    (folder := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("HABANA_VISIBLE_MODULES", raising=False)
    return folder


def say(program: Path, text: str, code: int = 0) -> None:
    program.write_text(f"#!/bin/sh\nwhile read -r line; do echo \"$line\"; done <<'END'\n{text}END\nexit {code}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("kind", "tool", "text", "count"),
    [
        ("cuda", "nvidia-smi", NVIDIA, 2),
        ("cuda", "nvidia-smi", "No devices were found\n", 0),
        ("hpu", "hl-smi", "0\n1\n7\n", 3),
        ("hpu", "hl-smi", "index\n0\nNo devices\n", 1),
    ],
)
def test_the_drivers_tool_is_believed(tools: Path, kind: str, tool: str, text: str, count: int) -> None:
    say(tools / tool, text)
    assert seen_cards(kind, tools) == count


def test_cards_of_other_pods_do_not_count(tools: Path) -> None:
    (tools / "dev/accel").mkdir(parents=True)
    (tools / "dev/accel/accel5").touch()
    say(tools / "hl-smi", "0\n1\n2\n")
    assert seen_cards("hpu", tools) == 1


@pytest.mark.parametrize(("kind", "tool"), [("cuda", "nvidia-smi"), ("hpu", "hl-smi")])
def test_a_tool_that_fails_leaves_it_to_torch(tools: Path, kind: str, tool: str) -> None:
    (tools / "dev").mkdir()
    (tools / "dev/nvidia0").touch()
    (tools / "dev/hl0").touch()
    say(tools / tool, "GPU 0: gone\n0\n", code=9)
    assert seen_cards(kind, tools) == 0


@pytest.mark.parametrize(
    ("kind", "files", "count"),
    [
        ("cuda", ("dev/nvidia0", "dev/nvidia1", "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia-caps/x"), 2),
        ("hpu", ("dev/accel/accel0", "dev/accel/accel_controlD0", "dev/accel/accel10"), 2),
        ("hpu", ("dev/hl0", "dev/hl_controlD0", "dev/hl7", "dev/accel/other"), 2),
        ("hpu", (), 0),
    ],
)
def test_without_the_tool_the_device_files_are_counted(
    tools: Path, kind: str, files: tuple[str, ...], count: int
) -> None:
    for name in files:
        (tools / name).parent.mkdir(parents=True, exist_ok=True)
        (tools / name).touch()
    assert seen_cards(kind, tools) == count


@pytest.mark.parametrize(("kind", "name"), [("cuda", "CUDA_VISIBLE_DEVICES"), ("hpu", "HABANA_VISIBLE_MODULES")])
def test_a_variable_that_hides_cards_leaves_it_to_torch(
    tools: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    say(tools / "nvidia-smi", NVIDIA)
    say(tools / "hl-smi", "0\n1\n")
    monkeypatch.setenv(name, "0")
    assert seen_cards(kind, tools) == 0


@pytest.mark.parametrize("words", [[], ["cpu"], ["gpu", "1"], ["cpu", "-1"], ["cpu", "1", "2"]])
def test_wrong_words_get_the_usage(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("usage: ")
