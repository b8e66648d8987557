"""Where kit and trainer meet: flags and their choices, and exit codes. The trainer's side is read without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mpikit.job import Job, Train
from mpikit.local import MEANING
from vit.config import Config, parse_args
from vit.errors import EXIT_CODES

ROOT = Path(__file__).resolve().parent.parent
KIT_SETS = {"data_path", "pretrained_dir", "output_dir", "device"}
"""Flags that the kit derives from its own values."""


def test_train_has_every_flag_of_the_trainer_and_no_other() -> None:
    assert set(Train.model_fields) == set(Config.__dataclass_fields__) - KIT_SETS


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


def flat(annotation: object) -> set[object]:
    return {annotation}.union(*(flat(inner) for inner in get_args(annotation)))


def test_the_exit_codes_that_the_kit_explains_are_the_trainers() -> None:
    assert set(MEANING) - {137} <= set(EXIT_CODES.values()), "137 is the shell's, for signal 9"


def test_the_trainers_side_of_the_contract_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import vit.config, vit.errors, vit.metrics"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["default", "voyager", "gaudi2", "gaudi3", "nvidia", "cpu"])
def test_the_flags_that_are_rendered_mean_to_the_trainer_what_the_values_say(
    make_job: Callable[..., Job], name: str
) -> None:
    job = make_job("train.autocast=false", "train.weight_decay=0.1", files=(f"{name}.yaml",))
    words = [word for flag in job.trainer_flags for word in flag]
    config = parse_args([*words, "--data_path", "/dataset", "--output_dir", "/output"])
    for field, value in job.train.model_dump(exclude_none=True).items():
        assert getattr(config, field) == value, field
    assert (config.train_batch_size, config.device) == (job.rank_batch, job.profile.trainer)
