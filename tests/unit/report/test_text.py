# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from mpikit.report.figures import Line, Lines, Page, Section, Shown, table
from mpikit.report.text import text_page, text_plots, text_table

LOSS = Lines("loss", (Line("training", ((250.0, 2.0), (500.0, 1.0), (1000.0, 0.5))),), 1000.0, ((400.0, "2"),))
TOP1 = Lines("top-1, %", (Line("top-1", ((500.0, 90.0), (1000.0, 98.0))),), 1000.0)


def test_two_plots_stand_beside_each_other_in_80_columns() -> None:
    lines = list(text_plots([LOSS, TOP1]))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["loss", "top-1,", "%"]
    assert lines[2].startswith("    2 |       *   :"), "the highest loss is in the first row, a restart right of it"
    assert "".join(lines[2:]).count("*") == 5
    assert sum(":" in line for line in lines) == 8
    assert lines[-1].split() == ["0", "step", "1,000", "0", "step", "1,000"]


def test_a_table_names_the_rows_that_it_leaves_out_and_aligns_numbers() -> None:
    lines = list(text_table(table(["class", "images"], [[f"cat {one}", f"{1000 + one:,}"] for one in range(12)])))
    assert lines[0] == "  class  images"
    assert lines[1] == "  cat 0   1,000"
    assert lines[-1] == "  ... and 2 more with -o html and -o json"


def test_what_is_missing_is_listed_and_nothing_disturbs_the_terminal() -> None:
    ranks = Section("ranks", "Ranks", missing="ranks.json does not exist")
    said = Section("machine", "Devices", facts=[("\x1b[2Jdevice", "Gaudi\r\n\u202e")], points=["a\x07"])
    pairs = Section("pairs", "Pairs", shown=[Shown(None, table(["class"], [["<b>\x9b31m"]]))])
    text = text_page(Page("run", "Complete.", True, (said, pairs, ranks)), 80)
    assert "  Ranks: ranks.json does not exist" in text
    assert "<b>\\x9b31m" in text
    assert all(char.isprintable() or char == "\n" for char in text)
