# SPDX-License-Identifier: Apache-2.0
"""The folder of an export is complete or not there, and nothing else is ever replaced; the model card."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.trained import write_run
from vit.export import card, formats
from vit.export.__main__ import NAMES, main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("output"), name="tulips_2", model_type="tiny", img_size=16)


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_names_after_to_are_the_formats() -> None:
    assert set(NAMES) == set(formats.FORMATS) == set(card.TITLES)


def test_the_folder_has_a_record_of_its_files_and_stdout_is_its_path(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(run / "checkpoints" / "step_00000020"), "--to", "npz"]) == 0
    assert capfd.readouterr().out == "tulips_2-npz\n"
    folder = tmp_path / "tulips_2-npz"
    record = json.loads((folder / "export.json").read_text())
    assert entries(tmp_path) == {"tulips_2-npz"}
    assert record["files"].keys() == entries(folder) - {"export.json"}
    assert all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == found for name, found in record["files"].items()
    )
    assert (record["format"], record["run"], record["step"]) == ("npz", "tulips_2", 20)


def test_the_same_weights_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main([str(run), "--to", "timm", "--out", str(tmp_path / name)]) == 0
    for name in entries(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_an_existing_folder_stays_unless_force_replaces_an_export(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--out", str(tmp_path / "out"), "--to"]
    assert main([*words, "npz"]) == 0
    assert main([*words, "timm"]) == 2
    assert "out exists, name another folder, or add --force" in capfd.readouterr().err
    assert "tiny.npz" in entries(tmp_path / "out")
    assert main([*words, "timm", "--force"]) == 0
    assert entries(tmp_path / "out") == {"README.md", "config.json", "model.safetensors", "export.json"}
    assert entries(tmp_path) == {"out"}


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_force_replaces_nothing_that_no_export_wrote(
    kind: str, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home, target = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    (home / "thesis.tex").write_text("years")
    (home / "export.json").write_text("{}")
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("notes")
    else:
        target.symlink_to(home)
    assert main([str(run), "--to", "npz", "--out", str(target), "--force"]) == 2
    assert "was not written by an export" in capfd.readouterr().err
    assert entries(home) == {"thesis.tex", "export.json"}
    assert entries(tmp_path) == {"home", "out"}


def test_a_failure_leaves_the_export_before_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--to", "npz", "--out", str(tmp_path / "deep" / "out")]
    assert main(words) == 0

    def fail(_trained: object, folder: Path) -> list[str]:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(formats.FORMATS, "npz", formats.Format(refusal=lambda _: None, write=fail))
    assert main([*words, "--force"]) == 7
    assert "No space left on device" in capfd.readouterr().err
    assert entries(tmp_path / "deep") == {"out"}
    assert "tiny.npz" in entries(tmp_path / "deep" / "out")


@pytest.mark.parametrize(("words", "told"), [
    (["--to", "keras"], "--to: invalid choice"),
    (["--to", "npz", "--license", "my: own"], '--license: "my: own" is not a license identifier'),
    ([], "--to"),
])  # fmt: skip
def test_wrong_flags_are_one_line(words: list[str], told: str, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), *words]) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["", "nothing", "weights.npz"])
def test_what_is_not_a_run_is_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weights.npz").write_bytes(b"PK")
    assert main([str(tmp_path / name), "--to", "npz"]) == 2
    assert "give output/NAME or output/NAME/checkpoints/step_NUMBER" in capfd.readouterr().err


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, name="a", model_type="tiny", img_size=16)
    (path,) = run.glob("checkpoints/*/model.pt")
    path.write_bytes(path.read_bytes()[:-1])
    assert main([str(run), "--to", "npz", "--out", str(tmp_path / "out")]) == 7
    assert "is damaged" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_card_has_accuracy_data_recipe_and_preprocessing(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--to", "timm", "--out", str(tmp_path / "out"), "--license", "cc-by-4.0"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    head = text.split("---\n")[1].splitlines()
    assert head[1:] == ["pipeline_tag: image-classification", "library_name: timm", "license: cc-by-4.0"]
    for line in (
        "| top-1 | 91.25 % |",
        "| top-5 | 99.50 % |",
        "| validation images | 1,020 |",
        "| learning_rate | 0.03 |",
    ):
        assert line in text
    assert "5,040 training images" in text
    assert "resized to 16 x 16, aspect not kept, bilinear filter" in text
    assert str(run) not in text  # the folder may be shared, and paths of the machine are private


def test_nothing_of_a_run_breaks_the_card(tmp_path: Path) -> None:
    names = ["a`b", "<script>alert(1)</script>", "\u202eevil", "x\n# y", "\udcff", "| |"]
    run = write_run(tmp_path, name="# [x](y)", model_type="tiny", img_size=16, class_names=names)
    assert main([str(run), "--to", "hf", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert re.findall("^# .*", text, re.M) == ["# \\# \\[x\\](y)"]
    assert "\u202e" not in text
    outside = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    assert "<script>" not in outside


def test_the_accuracy_is_of_this_very_checkpoint(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="a", model_type="tiny", img_size=16)
    (run / "metrics.jsonl").write_text('{"step": 10, "top1_percent": 99.0}\n')
    assert main([str(run), "--to", "npz", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "99.00" not in text
    assert "| top-1 | 91.25 % |" in text  # of the checkpoint's own best
