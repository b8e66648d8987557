# SPDX-License-Identifier: Apache-2.0
"""A report as a page of text: facts, plots of characters, bars and short tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from mpikit.diagnostics import one_line, shortened
from mpikit.report.curves import nice_ticks
from mpikit.report.figures import NUMBER, Bars, Lines, Page, Section, Shown, Stack, Table

COLUMNS, ROWS, LABEL_WIDTH = 28, 8, 5  # of a plot
BAR_WIDTH = 30
MOST_ROWS = 10  # of a table; HTML and JSON have the others
MOST_CELL = 44  # characters
NARROWEST = 40  # columns of folded text
MARKS = "*o+x"


def text_page(page: Page, width: int) -> str:
    """Return the page, at most `width` columns wide where its words allow."""
    lines = [one_line(page.title), *_folded(page.verdict, width, "")]
    shown = [section for section in page.sections if not section.missing]
    for section in shown:
        lines += ["", section.title.upper(), *_section(section, width)]
    absent = [section for section in page.sections if section.missing]
    if absent:
        lines += ["", "NOT SHOWN"]
        for section in absent:
            lines += _folded(f"{section.title}: {section.missing}", width, "  ")
    return "\n".join(line.rstrip() for line in lines)


def _section(section: Section, width: int) -> Iterator[str]:
    for lead in section.lead:
        yield from _folded(lead, width, "  ")
    for point in section.points:
        yield from _folded(point, width, "  - ", "    ")
    label_width = min(24, max((len(name) for name, _ in section.facts), default=0))
    for name, value in section.facts:
        head, *rest = _folded(value, width - label_width - 4, "") or [""]
        yield f"  {one_line(name):<{label_width}}  {head}"
        yield from (" " * (label_width + 4) + line for line in rest)
    plots = [shown.figure for shown in section.shown if isinstance(shown.figure, Lines)]
    if plots:
        yield from text_plots(plots)
    for shown in section.shown:
        if not isinstance(shown.figure, Lines):
            yield from _other(shown)


def _other(shown: Shown) -> Iterator[str]:
    """Yield a figure as bars if it has some, else its table."""
    if isinstance(shown.figure, (Bars, Stack)):
        yield from _bars(shown.figure)
    elif shown.table is not None:
        yield from text_table(shown.table)


def _bars(figure: Bars | Stack) -> Iterator[str]:
    rows = figure.bars if isinstance(figure, Bars) else figure.parts
    most = figure.most if isinstance(figure, Bars) else sum(value for _, value, _ in rows)
    rows = rows[:MOST_ROWS]
    width = max(len(_cell(label)) for label, _, _ in rows)
    yield f"  {figure.title}"
    for label, value, note in rows:
        bar = "#" * round(BAR_WIDTH * value / (most or 1.0))
        yield f"  {_cell(label):<{width}}  {bar:<{BAR_WIDTH}}  {note}"


def text_table(table: Table) -> Iterator[str]:
    """Yield the rows of a table under their heads; numbers stand to the right."""
    rows = [[_cell(cell) for cell in row] for row in table.rows[:MOST_ROWS]]
    widths = [max(map(len, column)) for column in zip(table.heads, *rows, strict=True)]
    right = [all(NUMBER.fullmatch(row[place]) for row in rows) for place in range(len(widths))]
    heads = [] if len(table.heads) == 1 else [list(table.heads)]
    for row in [*heads, *rows]:
        cells = [
            f"{cell:{'>' if to_right else '<'}{size}}" for cell, size, to_right in zip(row, widths, right, strict=True)
        ]
        yield "  " + "  ".join(cells)
    if table.total > len(rows):
        yield f"  ... and {table.total - len(rows):,} more with -o html and -o json"


def _cell(text: str) -> str:
    return shortened(one_line(text), MOST_CELL)


def _folded(text: str, width: int, first: str, others: str | None = None) -> list[str]:
    rest = first if others is None else others
    wide = max(NARROWEST, width)
    return textwrap.wrap(one_line(text), wide, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def text_plots(plots: Sequence[Lines]) -> Iterator[str]:
    """Yield the plots, two beside each other, in 80 columns."""
    blocks = [_plot(plot) for plot in plots]
    for place in range(0, len(blocks), 2):
        if place:
            yield ""
        yield from ("  ".join(parts).rstrip() for parts in zip(*blocks[place : place + 2], strict=True))


def _plot(plot: Lines) -> list[str]:
    """Lines of equal width: the title, the plot with its highest and lowest value, the axis of steps."""
    values = [value for line in plot.lines for _, value in line.points]
    ticks, last_step = nice_ticks(min(values), max(values)), plot.last
    low, high = ticks[0], ticks[-1]
    grid = [[" "] * COLUMNS for _ in range(ROWS)]
    for step, _ in plot.marks:
        for row in grid:
            row[round((COLUMNS - 1) * min(1.0, step / last_step))] = ":"
    for number, line in enumerate(plot.lines):
        for step, value in line.points:
            level = round((ROWS - 1) * (high - value) / (high - low))
            grid[level][round((COLUMNS - 1) * step / last_step)] = MARKS[number % len(MARKS)]
    labels = [f"{high:.4g}", *[""] * (ROWS - 2), f"{low:.4g}"]
    width = LABEL_WIDTH + 2 + COLUMNS
    names = [f"{MARKS[number % len(MARKS)]} {line.label}" for number, line in enumerate(plot.lines)]
    lines = [f"{'':{LABEL_WIDTH}}  {plot.title}", f"{'':{LABEL_WIDTH}}  {'  '.join(names)}"]
    lines += [f"{label:>{LABEL_WIDTH}} |{''.join(cells)}" for label, cells in zip(labels, grid, strict=True)]
    lines.append(f"{'0':>{LABEL_WIDTH + 2}}{f'step {last_step:,.0f}':>{COLUMNS}}")
    return [one_line(line)[:width].ljust(width) for line in lines]
