# SPDX-License-Identifier: Apache-2.0
"""A run that is resumed with other settings, or trained longer."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, Result, metric_rows  # noqa: E402  # after the skip
from vit.config import Config, parse_args  # noqa: E402
from vit.run.own import complete  # noqa: E402
from vit.training.optimizer import learning_rate  # noqa: E402

Here = Callable[..., Result]


def test_a_complete_run_goes_on_when_num_steps_is_raised(here: Here, tmp_path: Path) -> None:
    assert here("--name", "a").code == 0
    longer = here("--name", "a", "--num_steps", "18")
    assert longer.code == 0, longer.err
    assert "the run was complete at step 12 and continues to step 18" in longer.err
    rows = metric_rows(tmp_path / "a")
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15, 18]
    config = parse_args([*FLAGS, "--num_steps", "18"])
    assert [row["learning_rate"] for row in rows[-2:]] == pytest.approx([learning_rate(s, config) for s in (14, 17)])
    again = here("--name", "a", "--num_steps", "18")
    assert "is complete at step 18" in again.err
    back = here("--name", "a")
    assert (back.code, "num_steps is 12 but was 18" in back.err) == (2, True)


CHANGES = ["--autocast --learning_rate 0.1", "--ema_decay 0.9 --train_batch_size 4", "--num_steps 9"]


def test_the_flags_that_a_refused_resume_names_make_it_go_on(here: Here) -> None:
    assert here("--name", "a").code == 0
    for change in CHANGES:
        refused = here("--name", "a", *shlex.split(change))
        assert refused.code == 2, change
        parts = refused.err.split(", use another --name")[0].split(" set ")[1:]
        words = parts[-1].split(" and ")[0].split() if parts else []
        size = re.search(r"make --train_batch_size x ranks (\d+)", refused.err)
        words += ["--train_batch_size", size[1]] if size else []
        if "leave out --ema_decay" in refused.err:
            change = change.replace("--ema_decay 0.9", "")
        accepted = here("--name", "a", *shlex.split(change), *words)
        assert accepted.code == 0, (change, words, accepted.err)


def test_other_classes_are_named_not_their_checksum(here: Here, images: Path, tmp_path: Path) -> None:
    assert here("--name", "a").code == 0
    data = tmp_path / "data"
    shutil.copytree(images, data)
    for part in ("train", "val"):
        (data / part / "class_1").rename(data / part / "cat")
    refused = here("--name", "a", "--data_path", str(data), "--num_steps", "20")
    assert refused.code == 2
    assert 'the classes differ (1 new: "cat"; 1 absent: "class_1")' in refused.err
    assert "set --data_path to the data set that the run began with" in refused.err
    assert "crc" not in refused.err


def test_a_run_is_the_start_of_another_with_its_model_and_its_gelu(here: Here, images: Path, tmp_path: Path) -> None:
    flags = ["--num_steps", "2", "--eval_every", "2"]
    assert here("--name", "a", "--gelu", "erf", *flags).code == 0
    run = tmp_path / "a"
    checkpoint = next((run / "checkpoints").iterdir())
    for number, place in enumerate((run, checkpoint, checkpoint / "model.pt")):
        started = here("--name", f"b{number}", "--pretrained_dir", str(place), *flags)
        assert started.code == 0, started.err
        assert "settings of the checkpoint: gelu erf" in started.err
        assert "erf GELU" in started.err
        assert f"weights: {checkpoint / 'model.pt'}" in started.err
        assert "does not say its GELU" not in started.err
    resumed = here("--name", "b0", "--pretrained_dir", str(run), "--num_steps", "4", "--eval_every", "2")
    assert resumed.code == 0, resumed.err
    refused = here("--name", "c", "--gelu", "tanh", "--pretrained_dir", str(run), *flags)
    assert (refused.code, "--gelu: is tanh, but" in refused.err) == (2, True)


def test_the_heads_rows_go_by_name_to_other_data(here: Here, images: Path, tmp_path: Path) -> None:
    assert here("--name", "a", "--num_steps", "2", "--eval_every", "2").code == 0
    data = tmp_path / "data"
    shutil.copytree(images, data)
    for part in ("train", "val"):
        shutil.rmtree(data / part / "class_0")
    evaluated = here("--name", "b", "--eval_only", "--pretrained_dir", str(tmp_path / "a"), "--data_path", str(data))
    assert (evaluated.code, "add --classes subset" in evaluated.err) == (2, True)
    flags = ["--pretrained_dir", str(tmp_path / "a"), "--data_path", str(data), "--num_steps", "1"]
    started = here("--name", "c", *flags, "--learning_rate", "1e-30")
    assert started.code == 0, started.err
    assert "the head has the checkpoint's rows of these 2 classes, matched by name" in started.err
    old, new = (
        torch.load(next((tmp_path / name / "checkpoints").iterdir()) / "model.pt", weights_only=True) for name in "ac"
    )
    assert torch.equal(new["head.weight"], old["head.weight"][1:])


@pytest.mark.parametrize(
    ("content", "gelu"),
    [
        ('{"hidden_act": "gelu"}', "erf"),
        ('{"hidden_act": "gelu_pytorch_tanh"}', "tanh"),
        ('{"architecture": "vit_base_patch16_224"}', "erf"),
        ('{"architecture": "vit_base_patch16_224", "model_args": {"act_layer": "gelu_tanh"}}', "tanh"),
        ('{"hidden_act": "quick_gelu"}', None),
        ('["hidden_act"]', None),
        ("{", None),
        (None, None),
    ],
)
def test_gelu_is_what_a_config_beside_the_weights_says(tmp_path: Path, content: str | None, gelu: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    for place in (tmp_path, tmp_path / "pytorch_model.bin"):
        config, notes = complete(Config(model_type="tiny", pretrained_dir=str(place)), None, fixed=())
        assert config.gelu == (gelu or "tanh")
        assert notes == ([f"settings of config.json: gelu {gelu}"] if gelu else [])
    config, notes = complete(Config(gelu="erf", pretrained_dir=str(tmp_path)), None, fixed=())
    assert (config.gelu, notes) == ("erf", [])
