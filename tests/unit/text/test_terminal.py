# SPDX-License-Identifier: Apache-2.0
"""No control byte of a server, a name or a download reaches a terminal raw, by any verb or program."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpikit.text.terminal import visible, visible_log
from tests.conftest import ROOT
from tests.support.scripted.operator import ended, pod, with_status
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.world import NAMESPACE, World
from tests.support.terminal import ATTACKS, HOSTILE, Shown, on_terminal

LINE = b"2026-11-25T03:00:00Z "
WRITERS = {"mpikit/text/terminal.py", "vit/runtime/console.py"}
KEPT = ("kind", "apiVersion", "name", "namespace", "uid", "phase", "type", "status", "resourceVersion", "labels")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server whose every free text is an attack; one job of the user ada, and its launcher, which has failed."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    made = World(Scripted(), tmp_path / "world")
    store = made.server.store
    store.on_change = lambda what, item: None
    meta = {"name": "job", "namespace": NAMESPACE, "uid": "uid", "creationTimestamp": None}
    meta["labels"] = {"mpikit/user": f"ada{HOSTILE}"}
    job = {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1", "metadata": meta, "spec": {}}
    store.put("ADDED", "mpijobs", poisoned(with_status(job, "Running")))
    launcher = ended(pod(NAMESPACE, "job", "launcher", "job-launcher-x", "uid-2"), 1, "Running")
    store.put("ADDED", "pods", poisoned(launcher))
    made.server.answer = log_lines
    yield made
    made.close()


def poisoned(item: Any, key: str = "") -> Any:
    """The object with an attack in every text that a server may choose freely."""
    if isinstance(item, dict):
        return {
            name: value if name in KEPT and not isinstance(value, dict | list) else poisoned(value, name)
            for name, value in item.items()
        }
    if isinstance(item, list):
        return [poisoned(one, key) for one in item]
    free = isinstance(item, str) and key in ("reason", "message", "image", "nodeName")
    return item + HOSTILE if free else item


def log_lines(request: Request, handler: Handler) -> bool:
    """Attacks as log lines, one cut by the line's end and going on in the next."""
    if not request.path.endswith("/log"):
        return False
    lines = [attack.encode() for attack in ATTACKS] + [b"\x1b[", b"2J", b"\x1b[1;31mred\x1b[0m\tdone", b"\xff\x9b2J"]
    handler.send(200, b"".join(LINE + line + b"\n" for line in lines), {"Content-Type": "text/plain"})
    return True


def shown(world: World, *arguments: str) -> Shown:
    where = ("-n", NAMESPACE, "--kubeconfig", str(world.kubeconfig), "--request-timeout", "5", "--no-user-file")
    return on_terminal([sys.executable, "generate.py", *arguments, *where], {"LOGNAME": "ada"}, cwd=ROOT)


@pytest.mark.parametrize(
    "words",
    [
        "status job",
        "status job --debug",
        "list --all-users",
        "doctor",
        "wait job --timeout 1s",
        "status none",
        "delete job --timeout 1s",
    ],
)
def test_no_verb_hands_on_what_a_server_says_to_a_terminal(words: str, world: World) -> None:
    done = shown(world, *words.split())
    assert not done.raw, done.data
    assert done.data


def test_a_refusal_reaches_a_terminal_escaped(world: World) -> None:
    def refuse(_request: Request, handler: Handler) -> bool:
        handler.status(403, HOSTILE, HOSTILE)
        return True

    world.server.answer = refuse
    done = shown(world, "status", "job")
    assert not done.raw, done.data
    assert b"\\x1b]0;owned\\x07" in done.data


def test_logs_on_a_terminal_pass_tabs_and_colours_and_nothing_else(world: World) -> None:
    done = shown(world, "logs", "job")
    assert b"\x1b[1;31mred\x1b[0m\tdone\r\n" in done.data
    assert not Shown(0, done.data.replace(b"\x1b[1;31m", b"")).raw, done.data


def test_logs_into_a_pipe_keep_their_bytes(world: World) -> None:
    command = [sys.executable, "generate.py", "logs", "job", "-n", NAMESPACE, "--kubeconfig", str(world.kubeconfig)]
    done = subprocess.run([*command, "--no-user-file"], capture_output=True, cwd=ROOT, check=False)
    assert b"\x1b]0;owned\x07\n" in done.stdout
    assert b"\n\xff\x9b2J\n" in done.stdout


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"a\tb\rc", "a\tb\rc"),
        (b"\x1b[38;5;196mx\x1b[m", "\x1b[38;5;196mx\x1b[m"),
        (b"\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx"),
        (b"\x1b[" + b"1;" * 40 + b"m", "\\x1b[" + "1;" * 40 + "m"),
        (b"\x1b[31", "\\x1b[31"),
        (b"\x1b[3\n1m", "\\x1b[3\n1m"),
        (b"\x1b[?25l\x1b[31\x1b[0m", "\\x1b[?25l\\x1b[31\x1b[0m"),
        (b"\xc2\x9b2J", "\\x9b2J"),
        (b"\xc3\xa9\x9b", "\u00e9\\x9b"),
    ],
)
def test_a_line_of_a_log_on_a_terminal(line: bytes, seen: str) -> None:
    assert visible_log(line) == seen


def test_every_character_that_a_terminal_obeys_is_escaped() -> None:
    unsafe = [*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF]
    for code in set(unsafe) - {0x09, 0x0A}:
        assert visible(chr(code)).isascii(), hex(code)
        assert visible(chr(code)).isprintable(), hex(code)
    for text in ("a\tb\nc", "\u00e9\u4e2d\U0001f600\u200d"):
        assert visible(text) == text


def test_the_writers_are_the_only_ones_that_write() -> None:
    files = [ROOT / "generate.py", *(ROOT / "mpikit").glob("*.py"), *(ROOT / "vit").rglob("*.py")]
    astray = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {written}"
        for path in files
        if str(path.relative_to(ROOT)) not in WRITERS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (written := ast.unparse(node.func))
        in (
            "print",
            "click.echo",
            "click.secho",
            "click.clear",
            "sys.stdout.write",
            "sys.stderr.write",
            "sys.stdout.buffer.write",
        )
    ]
    assert not astray


# The trainer's programs


def images(folder: Path, name: str) -> Path:
    """A data set of two classes, one of them called `name`, with one picture and one file that is none in each."""
    for split in ("train", "val"):
        for class_name in (name, "plain"):
            place = folder / split / class_name
            place.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((32, 32, 3), 60 * number, np.uint8)).save(place / f"{number}.png")
            (place / f"{name}.png").write_bytes(b"no image")
    return folder


HOSTILE_NAME = HOSTILE.replace("/", "_")[:80]
TRAIN = (
    "--dataset imagefolder --model_type tiny --img_size 32 --num_steps 2 --train_batch_size 2 --eval_every 1"
    " --per_class --name a --device cpu --num_workers 0"
)
PROGRAMS = {
    "vit.prepare": "imagefolder --from {data}",
    "vit.prepare of a folder that is missing": "imagenet1K --from {data}/" + HOSTILE_NAME + " --to {out}",
    "vit.train": f"--data_path {{data}} --output_dir {{out}} {TRAIN}",
    "vit.train with a wrong flag": f"--{HOSTILE_NAME}",
    "vit.fetch": "http://127.0.0.1:9/x {out}/" + HOSTILE_NAME + " --tries 1",
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_no_program_of_the_trainer_hands_on_a_name_to_a_terminal(case: str, tmp_path: Path) -> None:
    data, out = images(tmp_path / "data", HOSTILE_NAME), tmp_path / "out"
    words = [word.format(data=data, out=out) for word in PROGRAMS[case].split(" ")]
    done = on_terminal([sys.executable, "-m", case.split()[0], *words], {"OMP_NUM_THREADS": "1"}, cwd=ROOT)
    without_live_lines = done.data.replace(b"\r", b"")
    assert not Shown(0, without_live_lines.replace(b"\n", b"")).raw, done.data
    assert b"\\x1b]0;owned" in done.data


def test_a_name_that_is_not_utf8_is_said_and_no_mistake_of_ours(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    data = images(tmp_path / "data", name)
    done = on_terminal([sys.executable, "-m", "vit.prepare", "imagefolder", "--from", str(data)], cwd=ROOT)
    assert done.returncode == 8
    assert b"caf\\udce9" in done.data


def test_the_manifest_of_a_hostile_value_stays_whole_in_a_pipe(tmp_path: Path) -> None:
    values = tmp_path / "v.yaml"
    values.write_text('user: ada\nenv: [{name: A, value: "\\u202ex"}]\n')
    command = [sys.executable, "generate.py", "-f", str(values), "--no-user-file"]
    piped = subprocess.run(command, capture_output=True, cwd=ROOT, check=True).stdout
    done = on_terminal(command, cwd=ROOT)
    assert "\u202e".encode() in piped
    assert not done.raw
