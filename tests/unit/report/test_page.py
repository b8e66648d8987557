# SPDX-License-Identifier: Apache-2.0
"""The HTML page: one file, well-formed, small, without scripts or requests, and nothing of a run becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mpikit.report.compare import compared_page
from mpikit.report.figures import Line, Lines
from mpikit.report.markup import Markup, element
from mpikit.report.page import STYLE, html_page
from mpikit.report.run import Run, read_run
from mpikit.report.sections import page_of
from mpikit.report.svg import lines_svg
from tests.support.reported import START, write_lines, write_reported

NOW = START + 1e6
HOSTILE = '<script>alert("1")</script>\u202e\x1b[31m&amp;'


class Reader(HTMLParser):
    """The elements of a page, their attributes, and whether each was closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_reported(tmp_path_factory.mktemp("runs"), every=10))


@pytest.fixture(scope="module")
def text(large: Run) -> str:
    return html_page(page_of(large, NOW), "1")


def test_a_large_run_keeps_within_its_limits(text: str) -> None:
    pictures = re.findall(r"data:image/jpeg;base64,[A-Za-z0-9+/=]*", text)
    assert len(pictures) == 30
    assert sum(map(len, pictures)) <= 300_000 + 30 * len("data:image/jpeg;base64,")
    assert len(text.encode()) - sum(map(len, pictures)) <= 300_000
    reader = Reader(text)
    assert not reader.open
    assert max(text.count("<tr>", begin, end) for begin, end in tables(text)) <= 101


def tables(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in re.finditer("<table>.*?</table>", text, re.DOTALL)]


def test_the_page_has_no_script_and_asks_for_nothing(text: str) -> None:
    for name, attributes in Reader(text).found:
        assert name not in ("script", "link", "iframe", "object", "form")
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in text
    assert "@import" not in text


def test_every_figure_has_its_values_in_a_table(text: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 12
    for figure in figures:
        assert "<details><summary>Values</summary>" in figure
        assert figure.count("<tr>") > 1


def test_names_and_ids_are_unique_and_links_lead_to_them(text: str) -> None:
    found = Reader(text).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(attributes["href"])[1:] for name, attributes in found if name == "a"]
    assert set(links) <= set(ids)
    assert len(links) == 13


def test_nothing_of_a_run_becomes_markup(tmp_path: Path) -> None:
    run = write_reported(tmp_path, "run", steps=2000, ranks=4, classes=10)
    hostile = run.rename(tmp_path / "<b>run")
    for path in hostile.rglob("*.json*"):
        text = path.read_text()
        for word in ("ibex", "voyager-00", "a rank hangs", "/dataset", "ViT-B_16"):
            text = text.replace(f'"{word}"', json.dumps(HOSTILE + word))
        path.write_text(text)
    write_lines(hostile / "events.jsonl", [{"event": "error", "exit_code": 70, "message": HOSTILE}])
    (hostile / "logs/004.log").write_text(f"warning: {HOSTILE}\ndevice: {HOSTILE}\n")
    found = read_run(hostile)
    for page in (page_of(found, NOW), compared_page(found, found, NOW)):
        text = html_page(page, "1")
        assert "\u202e" not in text
        assert "\x1b" not in text
        reader = Reader(text)
        assert not reader.open
        assert "script" not in {name for name, _ in reader.found}
        assert "<b>run" in "".join(reader.words)
    assert ', is <script>alert("1")</script>\\u202e\\x1b[31m&amp;ibex' in "".join(reader_of(found).words)


def reader_of(run: object) -> Reader:
    return Reader(html_page(page_of(run, NOW), "1"))  # type: ignore[arg-type]  # a Run


def test_pictures_can_be_left_out(large: Run) -> None:
    text = html_page(page_of(large, NOW, "left out with --no-images"), "1")
    assert "data:image" not in text
    assert "<dt>Sample predictions</dt><dd>left out with --no-images</dd>" in text


def test_a_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "a<b", None, ["&", Markup("<i></i>")], class_='"x', aria_label=None)
    assert inner == '<b class="&quot;x">a&lt;b&amp;<i></i></b>'
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_the_points_of_a_curve_lie_in_its_drawing() -> None:
    line = Line("a & b", ((250.0, 2.0), (500.0, 1.0), (1000.0, 0.5)))
    root = ElementTree.fromstring(
        lines_svg(Lines("loss", (line, Line("c", ((1000.0, 0.5),))), 1000.0, ((500.0, "2"),)))
    )
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    (path,) = [one for one in root.iter("path") if one.attrib["class"] == "line c0" and "L" in one.attrib["d"]]
    places = [tuple(map(float, place.split())) for place in path.attrib["d"][1:].split("L")]
    assert len(places) == 3
    assert all(0 < x < width and 0 < y < height for x, y in places)
    assert [y for _, y in places] == sorted(y for _, y in places), "a falling loss falls"


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [0, 1, 2], ids=["light", "dark", "print"])
def test_words_and_lines_stand_out_from_the_paper(palette: int) -> None:
    rule = STYLE.split("--paper:")[1:][palette]
    rule = "--paper:" + rule.split("}")[0]
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})\b", rule))
    full = {
        name: value if len(value) == 7 else "#" + "".join(2 * char for char in value[1:])
        for name, value in colours.items()
    }
    for name in ("ink", "muted", "good", "bad", "c0"):
        assert contrast(full[name], full["paper"]) >= 4.5, name
        assert contrast(full[name], full["card"]) >= 4.5, name
    for name in ("c1", "c2", "c3", "s1", "s2", "s3", "s4", "s5"):
        assert contrast(full[name], full["paper"]) >= 3, name


def test_wide_figures_stay_within_their_width(text: str) -> None:
    found = [attributes for name, attributes in Reader(text).found if name in ("rect", "circle", "line", "svg", "text")]
    places = [(one.get("x") or one.get("cx") or one.get("x1") or "", one.get("width") or "0%") for one in found]
    wide = [(float(x[:-1]), float(width.rstrip("%"))) for x, width in places if x.endswith("%") and width.endswith("%")]
    assert len(wide) > 400
    assert all(x >= 0 and x + width <= 100.02 for x, width in wide)


def test_the_slowest_ranks_are_drawn_of_a_very_large_job(tmp_path: Path) -> None:
    ranks = [{"rank": rank, "host": f"h{rank}", "score": 0.5 if rank == 4321 else 1.0} for rank in range(5000)]
    (tmp_path / "ranks.json").write_text(json.dumps({"ranks": ranks}))
    (tmp_path / "config.json").write_text("{}")
    drawn = html_page(page_of(read_run(tmp_path), NOW), "1")
    assert 400 < drawn.count("<circle ") <= 800
    assert "4321 h4321" in drawn
