# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mpikit.report.curves import Curve, nice_ticks, read_curves, svg, text_plot

LOSS = Curve("training loss", ((250, 2.0), (500, 1.0), (1000, 0.5)))
TOP1 = Curve("top-1, %", ((500, 90.0), (1000, 98.0)))


def test_curves_skip_what_was_not_measured_and_damaged_lines(tmp_path: Path) -> None:
    rows = [{"step": 10, "loss": 2.0, "top1_percent": None}, {"step": 20, "loss": 1.0, "top1_percent": 50.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 30, "lo')
    assert [(curve.title, curve.points) for curve in read_curves(tmp_path / "metrics.jsonl")] == [
        ("training loss", ((10, 2.0), (20, 1.0))),
        ("top-1, %", ((20, 50.0),)),
    ]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1500, [0, 500, 1000, 1500]),
        (95.1, 98.3, [95, 96, 97, 98, 99]),
        (0.07, 2.31, [0, 0.5, 1, 1.5, 2, 2.5]),
        (5, 5, [5, 6]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_the_svg_is_well_formed_and_its_points_lie_in_their_panels() -> None:
    root = ElementTree.fromstring(svg([LOSS, TOP1], 'digits & "<more>"'))
    assert root.attrib["aria-label"] == 'digits & "<more>"'
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    lines = [line.attrib["points"] for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(line.split()) for line in lines] == [3, 2]
    for x, y in re.findall(r"([\d.-]+),([\d.-]+)", " ".join(lines)):
        assert 0 <= float(x) <= width
        assert 0 <= float(y) <= height


def test_the_text_plot_has_both_curves_in_80_columns() -> None:
    lines = text_plot([LOSS, TOP1]).splitlines()
    assert max(map(len, lines)) <= 80
    assert "training loss" in lines[0]
    assert "top-1, %" in lines[0]
    assert "".join(lines).count("*") == 5
    assert lines[1].startswith("    2 |       *"), "the highest loss is in the first row, a quarter along the axis"
    assert lines[-1].split() == ["0", "step", "1,000", "0", "step", "1,000"]
