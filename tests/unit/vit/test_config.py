# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from tests.support.running import ROOT, clean_environment
from vit.config import Config, build_parser, field_docs, parse_args
from vit.errors import EXIT_CODES, ConfigError

BLOCK_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy", "PIL"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import vit.config, vit.errors, vit.run.metrics, vit.runtime.ranks, vit.runtime.cpus, vit.train
print(len(vit.config.parse_args([]).as_dict()))
"""

WRONG = [
    (["--num_steps", "0"], "--num_steps: 0 is not allowed, give a number of more than 0"),
    (["--learning_rate", "nan"], "--learning_rate: nan is not allowed, give a number of more than 0"),
    (["--weight_decay", "-1"], "--weight_decay: -1.0 is not allowed, give a number of 0 or more"),
    (["--dropout", "1"], "--dropout: 1.0 is not allowed, give a number from 0 to below 1"),
    (["--num_stpes", "3"], "--num_stpes: is not a flag of the trainer, did you mean --num_steps?"),
    (["--num-steps", "3"], "--num-steps: is not a flag of the trainer, did you mean --num_steps?"),
    (["20"], "20: is not the value of a flag, see python -m vit.train --help"),
    (["--num_steps", "many"], "--num_steps: invalid int value: 'many', see python -m vit.train --help"),
    (["--num_steps"], "--num_steps: expected one argument, see python -m vit.train --help"),
    (["--seed", "4294967296"], "--seed: 4294967296 is too large, give a number up to 4294967295"),
    (["--name", "a/b"], '--name: "a/b" is not a valid folder name, give a name without /, such as my-run'),
    (["--crop_pct", "1.5"], "--crop_pct: 1.5 is not allowed, give a number of more than 0, up to 1"),
    (
        ["--aa", "rand-x3"],
        '--aa: "rand-x3" is not a RandAugment string as timm writes it, give a text such as rand-m9-mstd0.5-inc1',
    ),
    (
        ["--mixup", "0.8", "--train_batch_size", "6", "--gradient_accumulation_steps", "2"],
        "--mixup: blends images in pairs, and a micro-batch has 3, make --train_batch_size",
    ),
    (
        ["--img_size", "8"],
        "--img_size: 8 is below one patch of 16 px of ViT-B_16, give at least 16",
    ),
    (
        ["--train_batch_size", "10", "--gradient_accumulation_steps", "4"],
        "--gradient_accumulation_steps: 4 does not divide --train_batch_size 10, set --train_batch_size to 8 or 12",
    ),
]


@pytest.mark.parametrize(("argv", "message"), WRONG)
def test_a_wrong_flag_is_one_line_with_flag_fault_and_fix(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_args(argv)
    assert str(caught.value).startswith(message)
    assert caught.value.exit_code == EXIT_CODES["configuration"] == 2


def test_a_wrong_choice_names_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"--optimizer: invalid choice: 'adam', choose from '?sgd'?, '?adamw'?"):
        parse_args(["--optimizer", "adam"])


def test_the_process_ends_with_code_2_and_no_traceback() -> None:
    command = [sys.executable, "-m", "vit.train", "--num_steps", "x"]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vit.train: --num_steps: invalid int value: 'x', see python -m vit.train --help\n"


def test_flags_errors_and_metrics_need_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK_TORCH], cwd=ROOT, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(dataclasses.fields(Config))


def test_a_missing_torch_is_named_with_its_cure() -> None:
    program = BLOCK_TORCH.replace("raise ImportError(name)", "raise ModuleNotFoundError(name, name=name)")
    program += "sys.exit(vit.train.main(['--device', 'cpu']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2
    assert "pip install torch numpy pillow" in done.stderr


def test_every_field_has_a_docstring_that_help_shows() -> None:
    names = [field.name for field in dataclasses.fields(Config)]
    docs, text = field_docs(), " ".join(build_parser("vit.train", names).format_help().split())
    for field in dataclasses.fields(Config):
        assert f"--{field.name}" in text
        assert docs[field.name].split(";")[0].split("(")[0].strip() in text


def test_defaults_follow_from_the_variant_and_from_other_flags() -> None:
    config = parse_args(["--model_type", "ViT-L_16", "--eval_every", "7"])
    assert (config.image_size, config.dropout_rate, config.checkpoint_every) == (384, 0.1, 7)
    assert parse_args(["--model_type", "tiny"]).image_size == 32


def test_identity_keeps_the_global_batch_and_leaves_out_what_does_not_matter() -> None:
    one = parse_args(["--train_batch_size", "8", "--log_every", "3"]).identity(world_size=1)
    two = parse_args(["--train_batch_size", "4", "--num_workers", "2"]).identity(world_size=2)
    assert one == two
    assert one["global_batch"] == 8
