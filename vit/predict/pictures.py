# SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions: a contact sheet, and what the model looks at."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vit.findings.pictures import SMOOTH, masked
from vit.predict.prediction import Prediction

Shown = tuple[Image.Image, Image.Image | None, list[Image.Image]]
"""An image, the mask of the model over it, and those of its layers."""
PAPER, INK, SOFT, BAR = "#ffffff", "#1a1a1a", "#666666", "#3b6fb6"
GOOD, BAD = "#15803d", "#b91c1c"
MARGIN, GAP, LINE = 18, 14, 20  # pixels
BOX, PANEL = 330, 250  # of a large image; width of the list of guesses
GUESS = 44  # height of a guess with its bar
WIDTH = 2 * MARGIN + 2 * BOX + 2 * GAP + PANEL
PER_ROW, SMALL = 12, 72  # layers
CELL, SCAN, COLUMNS = (156, 194), 132, 6  # of the contact sheet


def attention_picture(prediction: Prediction, shown: Shown) -> Image.Image:
    """Return the image beside the image under the map of the whole model, the guesses, and a map for each layer."""
    image, mask, layers = shown
    assert mask is not None, "the maps were asked for"
    scale = SMALL / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), SMOOTH)
    upper = max(image.height, len(prediction.top) * GUESS)
    rows = -(-len(layers) // PER_ROW)
    size = (WIDTH, 2 * MARGIN + 2 * LINE + upper + GAP + rows * (small.height + LINE))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    assert prediction.maps is not None
    least = prediction.maps[-1].min()
    for title, left, picture in (
        ("image", MARGIN, image),
        (f"what the model looks at (darkest {least:.2f}, brightest 1)", MARGIN + BOX + GAP, masked(image, mask)),
    ):
        draw.text((left, MARGIN), title, SOFT, _font(13))
        sheet.paste(picture, (left, MARGIN + LINE))
    _draw_guesses(draw, prediction, (MARGIN + 2 * (BOX + GAP), MARGIN))
    _draw_layers(sheet, small, layers, MARGIN + LINE + upper + GAP)
    return sheet


def _draw_layers(sheet: Image.Image, image: Image.Image, layers: Sequence[Image.Image], top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top), "the same up to layer", SOFT, _font(13))
    step = (sheet.width - 2 * MARGIN) / PER_ROW
    for number, mask in enumerate(layers):
        left = MARGIN + round(number % PER_ROW * step)
        upper = top + LINE + number // PER_ROW * (image.height + LINE)
        sheet.paste(masked(image, mask.resize(image.size, SMOOTH)), (left, upper))
        draw.text((left + image.width / 2, upper + image.height + 2), str(number + 1), SOFT, _font(12), anchor="ma")


def _draw_guesses(draw: ImageDraw.ImageDraw, prediction: Prediction, place: tuple[int, int]) -> None:
    left, top = place
    if prediction.truth is not None:
        colour = BAD if prediction.wrong else GOOD
        verdict = f"is {prediction.truth}: {'wrong' if prediction.wrong else 'right'}"
        draw.text((left, top), fitted(verdict, _font(14), PANEL), colour, _font(14))
    for number, (name, share) in enumerate(prediction.top):
        upper = top + LINE + number * GUESS
        draw.text((left, upper), fitted(name, _font(15), PANEL - 60), INK, _font(15))
        draw.text((left + PANEL, upper), f"{100 * share:.1f} %", INK, _font(15), anchor="ra")
        draw.rectangle((left, upper + 22, left + PANEL, upper + 29), fill="#e5e7eb")
        draw.rectangle((left, upper + 22, left + max(1, round(share * PANEL)), upper + 29), fill=BAR)


def contact_sheet(cells: Sequence[tuple[Prediction, Image.Image]], *, num_seen: int, num_wrong: int) -> Image.Image:
    """Return the images with the best guess of each, those that are wrong first and marked."""
    columns = min(COLUMNS, max(1, len(cells)))
    rows = -(-len(cells) // columns)
    width = max(2 * MARGIN + columns * CELL[0], 420)
    sheet = Image.new("RGB", (width, 2 * MARGIN + 2 * LINE + rows * CELL[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), _headline(cells, num_seen, num_wrong), INK, _font(16))
    for number, (prediction, image) in enumerate(cells):
        left = MARGIN + number % columns * CELL[0]
        top = MARGIN + 2 * LINE + number // columns * CELL[1]
        sheet.paste(image, (left + (SCAN - image.width) // 2, top + (SCAN - image.height) // 2))
        _draw_verdict(draw, prediction, (left, top))
    return sheet


def _headline(cells: Sequence[Any], num_seen: int, num_wrong: int) -> str:
    known = any(prediction.truth is not None for prediction, _ in cells)
    counted = f"{num_seen:,} image{'s' if num_seen != 1 else ''}"
    text = f"{num_seen - num_wrong:,} of {counted} right, {num_wrong:,} wrong" if known else counted
    return text if len(cells) == num_seen else f"{text}; {len(cells)} shown"


def _draw_verdict(draw: ImageDraw.ImageDraw, prediction: Prediction, place: tuple[int, int]) -> None:
    left, top = place
    colour = INK if prediction.truth is None else BAD if prediction.wrong else GOOD
    if prediction.wrong:
        draw.rectangle((left - 3, top - 3, left + SCAN + 2, top + SCAN + 2), outline=BAD, width=3)
    share = f" ({100 * prediction.top[0][1]:.0f} %)"
    room = SCAN - _font(14).getlength(share)
    draw.text((left, top + SCAN + 8), fitted(prediction.guess, _font(14), room) + share, colour, _font(14))
    if prediction.wrong:
        draw.text((left, top + SCAN + 27), fitted(f"but is {prediction.truth}", _font(14), SCAN), BAD, _font(14))


def fitted(text: str, font: Any, width: float) -> str:
    """Return the text in the letters of Pillow's font, cut with an ellipsis to a width in pixels."""
    text = " ".join(plain(text).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def plain(text: str) -> str:
    """Return the text in ASCII, which is all that Pillow's own font has: letters without marks, others as "?"."""
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in letters)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
