# SPDX-License-Identifier: Apache-2.0
"""Where kit and trainer meet: flags and their choices, and exit codes. The trainer's side is read without torch."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import hypothesis
import hypothesis.strategies as st
import pytest

from mpikit.config import types
from mpikit.config.job import Job
from mpikit.config.loader import load_job
from mpikit.config.sections import Train
from mpikit.config.values import load_values
from mpikit.errors import ValuesError
from mpikit.render.context import ScriptContext
from mpikit.report import flags
from mpikit.report.reliability import NAMES
from mpikit.report.verdict import SLOW_SCORE
from mpikit.trainer import EXIT_CODES, PATCHES, goodput_values, progress_values
from vit import config
from vit.config import Config, parse_args
from vit.errors import EXIT_CODES as TRAINERS
from vit.run.metrics import METRICS, metric_line, progress_line
from vit.supervise.goodput import PARTS, sentence
from vit.supervise.watchdog.scores import THRESHOLD
from vit.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
KIT_SETS = {"data_path", "pretrained_dir", "output_dir", "device", "burn_in_seconds"}
"""Flags that the kit derives from its own values."""


def test_train_has_every_flag_of_the_trainer_and_no_other() -> None:
    assert set(Train.model_fields) == set(Config.__dataclass_fields__) - KIT_SETS


def test_a_rank_is_slow_at_the_same_score_in_the_log_and_in_a_report() -> None:
    assert SLOW_SCORE == THRESHOLD


def test_a_report_knows_the_default_of_each_flag() -> None:
    assert Config().as_dict() == flags.DEFAULTS


def test_the_command_of_a_report_gives_the_same_flags_again() -> None:
    given = Config(name="a b", autocast=True, learning_rate=1e-4, mean="0.5,0.5,0.5", num_workers=0, resume="never")
    words = shlex.split(flags.command(given.as_dict()))
    assert words[:3] == ["python", "-m", "vit.train"]
    assert parse_args(words[3:]) == given


def test_flags_with_choices_have_the_same_choices() -> None:
    ours, theirs = get_type_hints(Train), get_type_hints(Config)
    for name in Train.model_fields:
        words = [{item for item in flat(hints[name]) if isinstance(item, str)} for hints in (ours, theirs)]
        assert words[0] == words[1], name


def test_numbers_and_booleans_are_the_same_kind_on_both_sides() -> None:
    ours, theirs = get_type_hints(Train), get_type_hints(Config)
    kinds = (bool, int, float)
    for name in Train.model_fields:
        found = [next((k for k in kinds if k in flat(hints[name])), None) for hints in (ours, theirs)]
        assert found[0] == found[1], name


# Values near every edge that either side knows, for each flag that takes numbers or text of a form of its own.
NUMBERS = (0, 1, 2, 3, 7, 8, 16, 31, 32, 224, 2**31 - 1, 2**32 - 1, 2**32, -1, 0.0, 0.1, 0.999, 1.0, 1.5, 1e-9, 1e30)
TEXTS = (
    "imagenet",
    "0.5,0.5,0.5",
    "0,0,0",
    "123.7,116.3,103.5",
    "reference",
    "rand",
    "rand-m9-mstd0.5-inc1",
    "rand-x1",
    "rand-m",
    "a/b",
    ".",
    "-x",
    "run",
    "auto",
    "sgd",
    "tiny",
    "ViT-H_14",
)


def flat(annotation: object) -> set[object]:
    return {annotation}.union(*(flat(inner) for inner in get_args(annotation)))


def edges() -> list[tuple[str, object]]:
    """Each flag of the trainer that the kit passes on, with each value of its kind."""
    hints = get_type_hints(Train)
    number = {name for name in hints if {int, float} & flat(hints[name]) and bool not in flat(hints[name])}
    return [(name, value) for name in Train.model_fields for value in (NUMBERS if name in number else TEXTS)]


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(st.lists(st.sampled_from(edges()), max_size=3).map(dict))
@hypothesis.example({"mixup": 0.2, "gradient_accumulation_steps": 8})
def test_what_the_kit_takes_the_trainer_takes(values_root: Path, train: dict[str, object]) -> None:
    settings = [("--set", f"train.{name}={json.dumps(value).strip(chr(34))}") for name, value in train.items()]
    flags = [("--set", "user=ada"), ("--set", "output=/output"), ("--set", "train.train_batch_size=8")]
    try:
        job, _warnings = load_job(load_values(values_root, ("cpu.yaml",), [*flags, *settings]))
    except ValuesError:
        return
    words = [word for flag in ScriptContext(job).trainer_flags for word in flag]
    parse_args([*words, "--data_path", "/dataset", "--output_dir", "/output"])


def test_both_sides_know_the_same_form_of_randaugment() -> None:
    assert types.RAND_AUGMENT == config.RAND_AUGMENT


def test_both_sides_know_the_same_form_of_mean_and_std() -> None:
    assert (types.MEAN, types.STD) == (config.MEAN, config.STD)


def test_the_exit_codes_that_the_kit_explains_are_the_trainers() -> None:
    assert set(EXIT_CODES) == set(TRAINERS.values()) - {0, 130} | {137}, "137 is the shell's, for signal 9"


def test_the_patches_that_the_kit_knows_are_the_trainers() -> None:
    assert {name: variant.patch for name, variant in VARIANTS.items()} == PATCHES


def test_the_trainers_side_of_the_contract_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import vit.config, vit.errors, vit.run.metrics"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["voyager", "voyager-mydir", "gaudi2", "gaudi3", "nvidia", "cpu"])
def test_the_flags_that_are_rendered_mean_to_the_trainer_what_the_values_say(
    make_job: Callable[..., Job], name: str
) -> None:
    job = make_job("train.autocast=false", "train.weight_decay=0.1", files=(f"{name}.yaml",))
    words = [word for flag in ScriptContext(job).trainer_flags for word in flag]
    parsed = parse_args([*words, "--data_path", "/dataset", "--output_dir", "/output"])
    for field, value in job.train.model_dump(exclude_none=True).items():
        assert getattr(parsed, field) == value, field
    assert (parsed.train_batch_size, parsed.device) == (job.rank_batch, job.hardware.trainer)


def test_the_kit_reads_the_progress_line_that_the_trainer_writes() -> None:
    values = {"step": 100, "loss": 0.5, "top1_percent": 91.2, "images_per_second": 240.0, "step_seconds": 100.0}
    read = progress_values(progress_line(values, 1500))
    seconds = 140_000 // 3600 * 3600  # to the hour, for more than a day
    del values["step_seconds"]
    assert read == {**values, "num_steps": 1500, "seconds_left": seconds}
    assert progress_values(metric_line(values)) == {key: values.get(key) for key in METRICS}


def test_the_report_names_the_parts_of_goodput_as_the_log_does() -> None:
    assert NAMES == PARTS


def test_the_kit_reads_the_goodput_that_the_launcher_states() -> None:
    for step in (0.04, 3.0, 97.0, 1e9):
        said = sentence(dict.fromkeys(PARTS, 0.25) | {"step": step})
        read = goodput_values(f"run_vit.sh: {said}\n")
        assert read is not None
        assert read == (round(100 * step / (step + 0.25 * (len(PARTS) - 1)), 1), said)
    assert goodput_values("run_vit.sh: complete after 2 attempts") is None
