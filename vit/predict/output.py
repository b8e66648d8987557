# SPDX-License-Identifier: Apache-2.0
"""Predictions as text, as JSON lines or as pictures; and the files that are meant by paths."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vit.data.folders import EXTENSIONS
from vit.errors import DataError
from vit.files import named_storage
from vit.predict.pictures import Shown, attention_picture, contact_sheet
from vit.predict.prediction import Prediction

QUALITY = 90  # of JPEG
MOST_ON_SHEET = 60
THUMBNAIL, LARGE = 132, 330  # pixels
MOST_LETTERS = 80  # of a file's name


class Output:
    """Where predictions go, one after another."""

    def __init__(
        self,
        form: str,
        folder: Path,
        show: Callable[[Prediction, int], Shown],
        write: Callable[[str], None],
        *,
        attention: bool,
    ) -> None:
        self.form, self.folder, self.show, self.write, self.attention = form, folder, show, write, attention
        self.names: Counter[str] = Counter()
        self.right: list[tuple[Prediction, Image.Image]] = []
        self.wrong: list[tuple[Prediction, Image.Image]] = []
        self.num_seen = self.num_wrong = 0

    def add(self, prediction: Prediction) -> None:
        """Write one prediction, or keep it for the contact sheet. Raises StorageError."""
        picture = self._draw_attention(prediction) if self.attention else None
        if self.form == "json":
            self.write(json.dumps(as_dict(prediction, picture)))
        elif self.form == "text":
            for line in text_lines(prediction, picture):
                self.write(line)
        else:
            self._keep(prediction)
            if picture is not None:
                self.write(str(picture))

    def finish(self) -> None:
        """Write the contact sheet: wrong predictions first. Raises StorageError."""
        if self.form != "sheet":
            return
        cells = (self.wrong + self.right)[:MOST_ON_SHEET]
        sheet = contact_sheet(cells, num_seen=self.num_seen, num_wrong=self.num_wrong)
        self.write(str(self._save(sheet, "contact-sheet")))

    def _keep(self, prediction: Prediction) -> None:
        self.num_seen += 1
        self.num_wrong += prediction.wrong
        kept = self.wrong if prediction.wrong else self.right
        if len(kept) < MOST_ON_SHEET:
            kept.append((prediction, self.show(prediction, THUMBNAIL)[0]))

    def _draw_attention(self, prediction: Prediction) -> Path:
        stem = re.sub(r"[^\w.-]+", "_", Path(prediction.image).stem)[:MOST_LETTERS].strip("._") or "image"
        self.names[stem] += 1
        number = f"-{self.names[stem]}" if self.names[stem] > 1 else ""
        return self._save(attention_picture(prediction, self.show(prediction, LARGE)), f"{stem}{number}.attention")

    def _save(self, picture: Image.Image, name: str) -> Path:
        """Write a picture whole or not at all."""
        path = self.folder / f"{name}.jpg"
        temporary = path.with_name(f".{path.name}.tmp")
        with named_storage(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            picture.save(temporary, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
            temporary.replace(path)
        return path


def as_dict(prediction: Prediction, picture: Path | None) -> dict[str, Any]:
    """Return what JSON shows; `class` is null where it is not known."""
    top = [{"class": name, "probability": round(share, 4)} for name, share in prediction.top]
    row: dict[str, Any] = {"image": prediction.image, "class": prediction.truth, "prediction": prediction.guess}
    row |= {"probability": top[0]["probability"], "top5": top}
    return row if picture is None else {**row, "attention": str(picture)}


def text_lines(prediction: Prediction, picture: Path | None) -> Iterator[str]:
    """Yield the image, its best guesses, and where the picture of the attention is."""
    truth = f"  (is {prediction.truth}{', wrong' if prediction.wrong else ''})" if prediction.truth is not None else ""
    yield f"{prediction.image}{truth}"
    for name, share in prediction.top:
        yield f"  {100 * share:5.1f} %  {name}"
    if picture is not None:
        yield f"  attention: {picture}"


def find_files(places: Sequence[Path]) -> list[Path]:
    """Return the files, and the images in the folders by name, hidden ones left out. Raises DataError."""
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            if not place.exists():
                raise DataError(str(place), "does not exist", "give an image file or a folder of images")
            found.append(place)
            continue
        below = [path for path in sorted(place.rglob("*")) if _is_image(path.relative_to(place)) and path.is_file()]
        if not below:
            raise DataError(str(place), "contains no images", f"give a folder with {', '.join(EXTENSIONS)}")
        found += below
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not any(part.startswith(".") for part in path.parts)
