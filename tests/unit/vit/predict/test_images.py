# SPDX-License-Identifier: Apache-2.0
"""Predictions of files: the model's own probabilities, as text, JSON and pictures; and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip
from PIL import Image  # noqa: E402

from tests.support.photographs import write_photographs  # noqa: E402
from tests.support.running import Result  # noqa: E402
from tests.support.trained import CLASSES, write_run  # noqa: E402
from vit.data.batches import open_eval  # noqa: E402
from vit.data.datasets import FileSource  # noqa: E402
from vit.export.trained import open_trained  # noqa: E402
from vit.findings.pictures import DARKEST, masked, spread  # noqa: E402
from vit.predict.__main__ import main, parse  # noqa: E402
from vit.predict.pictures import contact_sheet, plain  # noqa: E402
from vit.predict.prediction import Prediction  # noqa: E402
from vit.predict.predictor import Predictor, open_predictor  # noqa: E402
from vit.run.saved_flags import saved_flags  # noqa: E402
from vit.runtime.ranks import read_ranks  # noqa: E402
from vit.training.evaluation import normalise  # noqa: E402
from vit.variants import VARIANTS  # noqa: E402

Predict = Callable[..., Result]
RUNS: dict[str, dict[str, Any]] = {
    "tiny": {"model_type": "tiny", "img_size": 32},
    "crop": {"model_type": "tiny", "img_size": 36, "gelu": "erf", "eval_resize": "crop", "std": "imagenet"},
    "base": {"model_type": "ViT-B_16", "img_size": 64},
    "hybrid": {"model_type": "R50-ViT-B_16", "img_size": 72},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    files = [path for _, path in write_photographs(tmp_path_factory.mktemp("photos"))]
    return list(itertools.islice(files, 0, 200, 4))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A run of RUNS. B_16 and the hybrid have 2 of their 12 equal blocks here."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ViT-B_16", "R50-ViT-B_16"):
            patch.setitem(VARIANTS, name, dataclasses.replace(VARIANTS[name], num_layers=2))
        yield lambda name: root / name if (root / name).exists() else write_run(root, name=name, **RUNS[name])
    shutil.rmtree(root)


@pytest.fixture
def predict(
    runs: Callable[[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Predict]:
    """Run the command in this process and in an empty folder; signal handlers and logging are put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}
    loggers = logging.root.handlers[:]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path, name: str = "tiny") -> Result:
        capfd.readouterr()
        code = main(["--pretrained_dir", str(runs(name)), "--device", "cpu", *map(str, words)])
        return Result(code, *capfd.readouterr())

    yield run
    logging.captureWarnings(False)
    logging.root.handlers[:] = loggers
    for number, handler in handlers.items():
        signal.signal(number, handler)


def opened(run: Path, files: list[Path]) -> Predictor:
    words = ["--pretrained_dir", str(run), "--device", "cpu", "--eval_batch_size", "16"]
    return open_predictor(parse([*saved_flags(words), *words]), files, read_ranks({}))


@pytest.mark.parametrize("name", RUNS)
def test_the_probabilities_are_those_of_the_evaluated_model(
    name: str, runs: Callable[[str], Path], photographs: list[Path]
) -> None:
    predictor = opened(runs(name), photographs)
    found = list(predictor.predictions(with_maps=False))
    trained = open_trained(str(runs(name)))
    batches = open_eval(trained.config, FileSource(photographs, CLASSES))
    images = batches.batch([(0, number) for number in range(len(photographs))]).images
    with torch.no_grad():
        expected = trained.model(normalise(images, trained.config.scaling)).softmax(dim=-1).topk(5, dim=-1)
    assert [one.image for one in found] == [str(path) for path in photographs]
    shares = [[share for _, share in one.top] for one in found]
    torch.testing.assert_close(torch.tensor(shares), expected.values, rtol=0, atol=1e-4)
    assert [one.guess for one in found] == [CLASSES[number] for number in expected.indices[:, 0].tolist()]


def test_text_has_five_classes_an_image_and_the_best_first(predict: Predict, photographs: list[Path]) -> None:
    done = predict(*photographs[:3])
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[::6] == [str(path) for path in photographs[:3]]
    shares = [float(line.split()[0]) for line in lines[1:6]]
    assert shares == sorted(shares, reverse=True)
    assert all(line[11:] in CLASSES for line in lines[1:6])


def test_json_lines_agree_with_the_text(predict: Predict, photographs: list[Path]) -> None:
    text = predict(photographs[5], "-o", "text").out.splitlines()[1:]
    (line,) = predict(photographs[5], "-o", "json").out.splitlines()
    row = json.loads(line)
    assert row.keys() == {"image", "class", "prediction", "probability", "top5"}
    assert (row["image"], row["class"]) == (str(photographs[5]), None)
    assert [f"  {100 * one['probability']:5.1f} %  {one['class']}" for one in row["top5"]] == text


def test_a_folder_stands_for_the_images_in_it(predict: Predict, photographs: list[Path], tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/deep/1.jpeg", ".hidden/3.jpg", "b/.4.jpg", "b/notes.txt"):
        (tmp_path / "many" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photographs[8], tmp_path / "many" / name)
    done = predict("many", "-o", "json")
    assert [json.loads(line)["image"] for line in done.out.splitlines()] == ["many/b/2.JPG", "many/b/deep/1.jpeg"]
    assert len(predict("many", "-o", "json", "--limit", "1").out.splitlines()) == 1


def test_a_damaged_file_is_named_and_the_others_are_predicted(
    predict: Predict, photographs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "cut.jpg").write_bytes(photographs[8].read_bytes()[:300])
    done = predict("cut.jpg", photographs[8], "-o", "json")
    assert done.code == 8
    assert [json.loads(line)["image"] for line in done.out.splitlines()] == [str(photographs[8])]
    assert "warning: cut.jpg: cannot be decoded" in done.err
    assert "1 of 2 images could not be decoded" in done.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nothing.jpg"], 8, "nothing.jpg: does not exist"),
        (["empty"], 8, "empty: contains no images"),
        (["a.jpg", "--limit", "0"], 2, "--limit: is 0"),
        (["a.jpg", "-o", "yaml"], 2, "-o: invalid choice: 'yaml', choose from"),
        (["a.jpg", "--pretrained_dir", "w.npz"], 2, "w.npz does not name its classes"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], code: int, told: str, predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "w.npz").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    done = predict(*words)
    assert done.code == code
    assert told in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


@pytest.mark.parametrize("name", ["tiny", "crop", "hybrid"])
def test_attention_is_a_picture_of_each_image(
    name: str, predict: Predict, photographs: list[Path], tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(photographs[8], tmp_path / folder / "my photo.jpg")
    done = predict("a", "b", "-o", "json", "--attention", "--out", "pictures", name=name)
    assert done.code == 0, done.err
    places = [json.loads(line)["attention"] for line in done.out.splitlines()]
    assert places == ["pictures/my_photo.attention.jpg", "pictures/my_photo-2.attention.jpg"]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [Path(one).name for one in places][::-1]
    with Image.open(tmp_path / places[0]) as picture:
        assert picture.width > 900
        assert np.asarray(picture).std() > 20


def test_the_picture_is_bright_where_the_map_is_and_dark_elsewhere() -> None:
    white = Image.new("RGB", (20, 10), "white")
    mask = Image.fromarray(np.linspace(0.5, 1, 20, dtype=np.float32)[None].repeat(10, 0))
    columns = np.asarray(masked(white, mask))[0, :, 0]
    assert columns[0] == round(255 * DARKEST)
    assert columns[-1] == 255
    assert (np.diff(columns.astype(int)) > 0).all()
    flat = masked(white, Image.fromarray(np.ones((10, 20), np.float32)))
    assert np.asarray(flat).min() == 255  # a map that prefers nothing hides nothing


def test_pixels_beside_whole_patches_are_dark_and_those_of_a_hybrid_are_not(
    runs: Callable[[str], Path], photographs: list[Path]
) -> None:
    """36 pixels have 4 patches of 8 and a rest that tiny does not see; the hybrid's 5 tokens of 72 pixels see all."""
    for name, expected in (("crop", 0.0), ("hybrid", 1.0)):
        predictor = opened(runs(name), photographs[:1])
        side, patch = predictor.config.image_size, predictor.config.variant.patch
        mask = np.asarray(spread(np.ones(predictor.model.grid), patch, side, (side, side)))
        assert mask.shape == (side, side)
        assert mask[0, 0] == 1
        assert mask[-1, -1] == expected


def made(number: int, *, truth: str | None, guess: str) -> tuple[Prediction, Image.Image]:
    top = ((guess, 0.75), ("other", 0.25))
    return Prediction(index=number, image=f"{number}.png", truth=truth, top=top), Image.new("RGB", (132, 66), "grey")


def test_the_contact_sheet_shows_what_is_wrong_first(predict: Predict, tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    for number in range(80):
        folder = tmp_path / "data" / "val" / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.randint(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "runs").mkdir()
    run = write_run(tmp_path / "runs", name="a", class_names=["class_0", "class_1"], model_type="tiny", img_size=16)
    data = ("--pretrained_dir", run, "--data_path", tmp_path / "data")
    rows = [json.loads(line) for line in predict(*data).out.splitlines()]
    num_wrong = sum(row["class"] != row["prediction"] for row in rows)
    assert len(rows) == 80
    assert 0 < num_wrong < 80
    done = predict(*data, "-o", "sheet", "--out", "sheets")
    assert (done.code, done.out) == (0, "sheets/contact-sheet.jpg\n"), done.err
    with Image.open(tmp_path / "sheets" / "contact-sheet.jpg") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    red = (pixels[:, :, 0] > 150) & (pixels[:, :, 1] < 80) & (pixels[:, :, 2] < 80)
    rows_with_red = np.flatnonzero(red.sum(axis=1) > 60)  # frames, not letters
    assert rows_with_red.size
    assert rows_with_red.max() < 60 + (-(-min(num_wrong, 60) // 6)) * 194


@pytest.mark.parametrize("name", ["a" * 300, "<b>&amp;", "\u202eevil\n\ud800", "\u6f22\u5b57", "", "caf\u00e9 \u20ac"])
def test_any_class_name_can_be_drawn(name: str) -> None:
    cells = [made(0, truth=name, guess="x"), made(1, truth="x", guess=name), made(2, truth=None, guess=name)]
    sheet = contact_sheet(cells, num_seen=3, num_wrong=2)
    assert sheet.width < 600
    assert plain(name).isascii()
