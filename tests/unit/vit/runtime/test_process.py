# SPDX-License-Identifier: Apache-2.0
"""Streams that lose their reader, and the ways out of the process."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, ROOT, clean_environment  # noqa: E402  # after the skip
from vit.runtime.process import Stream  # noqa: E402

CASES = int(os.environ.get("STREAM_CASES", "4"))
SEED = int(os.environ.get("STREAM_SEED", "0"))
EVALUATION = "--model_type tiny --img_size 16 --dataset imagefolder --device cpu --num_workers 0"
WHOLE = {"code": 0, "left": [], "locked": False, "complete": True, "metrics": 4}


def test_a_stream_whose_reader_leaves_is_lost_once_and_takes_further_lines() -> None:
    reader, writer = os.pipe()
    stream = Stream(writer, "utf-8")
    stream.write("one\n")
    os.close(reader)
    assert stream.lost is None
    stream.write("two\n")
    stream.write("three\n")
    assert stream.lost == "Broken pipe"
    assert os.write(writer, b"of a library") == 12
    os.close(writer)


def test_a_full_device_loses_the_stream() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    stream = Stream(descriptor, "ascii")
    stream.write("caf\xe9\n")
    assert stream.lost == "No space left on device"
    os.close(descriptor)


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_every_byte() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "x" * 300_000
    counted = subprocess.Popen(["sh", "-c", "sleep 0.5; wc -c"], stdin=reader, stdout=subprocess.PIPE, text=True)
    os.close(reader)
    stream = Stream(writer, "utf-8")
    stream.write(text)
    os.close(writer)
    assert counted.communicate(timeout=60)[0].strip() == str(len(text))
    assert stream.lost is None


def run_cases(cases: list[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """Each of the cases in a fork of one process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.forked", str(root)],
        input="".join(json.dumps(case) + "\n" for case in cases),
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        timeout=120 + 60 * len(cases),
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_streams_that_close_at_any_line_cost_no_run(tmp_path: Path) -> None:
    """The lines are taken in turn from a shuffled list, so that many cases close after each of them."""
    (whole,) = run_cases([{"streams": [], "loaders": 0}], tmp_path / "whole")
    assert whole.items() >= WHOLE.items()
    choice = random.Random(SEED)
    moments = choice.sample(range(whole["lines"] + 1), whole["lines"] + 1)
    cases = [
        {
            "lines": moments[number % len(moments)],
            "streams": choice.choice([["stdout"], ["stderr"], ["stdout", "stderr"]]),
            "loaders": choice.randint(0, 4),
        }
        for number in range(CASES)
    ]
    results = run_cases(cases, tmp_path / "cut")
    assert len(results) == CASES
    wrong = [(case, one) for case, one in zip(cases, results, strict=True) if not one.items() >= WHOLE.items()]
    assert not wrong


def run_shell(command: str, root: Path, module: str = "vit.train", *flags: str) -> subprocess.CompletedProcess[str]:
    words = " ".join([sys.executable, "-m", module, *flags])
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("RUN", words)],
        cwd=ROOT,
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=240,
    )


@pytest.mark.parametrize("command", ["RUN 2>&1 | head -1", "RUN <&- >&- 2>&-", "RUN >/dev/full 2>&1"])
def test_a_run_without_readers_is_complete(images: Path, tmp_path: Path, command: str) -> None:
    flags = [*FLAGS, "--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a", "--num_workers", "1"]
    done = run_shell(command, tmp_path, "vit.train", *flags, "--num_steps", "4")
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "a/logs/001.log").read_text()
    assert log.splitlines()[-1].startswith("top-1 ")
    assert "warning: stdout cannot be written anymore (" in log
    with (tmp_path / "a/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    closed = [path for path in (tmp_path / "a").rglob("*") if path.is_file() and b"vit.train:" in path.read_bytes()]
    assert not closed, "a stream's text went into a file of the run"


def test_an_evaluation_whose_result_nobody_gets_is_exit_7(images: Path, tmp_path: Path) -> None:
    from vit.model.transformer import create_model
    from vit.weights.load import save_npz

    model = create_model("tiny", img_size=16, num_classes=3)
    torch.nn.init.normal_(model.head.weight)
    save_npz(model, tmp_path / "w.npz")
    flags = [*shlex.split(EVALUATION), "--data_path", str(images), "--pretrained_dir", str(tmp_path / "w.npz")]
    done = run_shell("RUN >/dev/full", tmp_path, "vit.evaluate", *flags)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == (
        "vit.evaluate: stdout: the result cannot be written (No space left on device), "
        "redirect stdout to a file or to a program that reads it"
    )


@pytest.mark.parametrize("ignored", [False, True])
def test_hangup_saves_like_a_stop_unless_nohup_ignores_it(images: Path, tmp_path: Path, ignored: bool) -> None:
    flags = [*FLAGS, "--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a"]
    steps = "200" if ignored else "100000"
    rank = subprocess.Popen(
        [*(["nohup"] if ignored else []), sys.executable, "-m", "vit.train", *flags, "--num_steps", steps],
        cwd=ROOT,
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup themselves
    )
    assert rank.stdout is not None
    rank.stdout.readline()
    rank.send_signal(signal.SIGHUP)
    rank.communicate(timeout=240)
    assert rank.returncode == (0 if ignored else 143)
    events = [json.loads(line)["event"] for line in (tmp_path / "a/events.jsonl").read_text().splitlines()]
    assert events[-1] == ("complete" if ignored else "stop")


ENDS = {
    "raise SystemExit(0)": 70,  # a library's: it must not look like success
    "raise SystemExit('text')": 70,
    "raise KeyboardInterrupt": 130,
    "raise BaseException": 70,
    "import atexit; atexit.register(lambda: 1 / 0)": 0,
    "import threading; threading.Thread(target=threading.Event().wait).start()": 0,
    "1 / 0": 70,
}
PROGRAM = """
import sys
from vit.runtime.process import run_process
from vit.train import Reporter, launch, parse_args
def work(config, ranks, reporter):
    import multiprocessing, signal, time
    def loader():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    multiprocessing.get_context("fork").Process(target=loader, daemon=True).start()
    %s
run_process(lambda argv: launch(argv, parse_args, work))
"""


@pytest.mark.parametrize("end", ENDS)
def test_every_way_out_ends_processes_that_ignore_sigterm(end: str) -> None:
    started = time.monotonic()
    done = subprocess.run(  # communicate waits for the loader too, which has the pipes
        [sys.executable, "-c", PROGRAM % end], cwd=ROOT, env=clean_environment(), capture_output=True, timeout=120
    )
    assert done.returncode == ENDS[end], done.stderr
    assert time.monotonic() - started < 100


THREAD_FAULTS = {
    "OSError(2, 'No such file or directory', b'/run/a\\x1b[2J')": "/run/a\\x1b[2J: No such file or directory",
    "ValueError('bad\\x07\\nsecond line')": "bad\\x07",
    "KeyError()": "it gives no reason",
}
STARTS = {
    "a rank": "from vit.train import launch, parse_args\ndef main(argv):\n return launch(argv, parse_args, work)",
    "a command": (
        "from vit.runtime.launcher import run_program\ndef main(argv):\n return run_program('vit.a', argv, work)"
    ),
}
FAILING_THREAD = """
import threading
from vit.runtime.process import run_process
def fail():
    raise {error}
def work(*_):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
{start}
run_process(main)
"""


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("error", THREAD_FAULTS)
def test_a_thread_that_raises_is_one_escaped_warning(start: str, error: str) -> None:
    program = FAILING_THREAD.format(error=error, start=STARTS[start])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    expected = f"warning: a background thread failed ({THREAD_FAULTS[error]}); the program continues without it\n"
    assert done.stderr == expected


def test_help_is_exit_0() -> None:
    for module in ("vit.train", "vit.evaluate", "vit.fetch", "vit.prepare"):
        assert run_shell("RUN --help", Path(), module).stdout.startswith(f"usage: python -m {module}")
