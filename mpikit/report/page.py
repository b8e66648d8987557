# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML file: no script, no outside reference; its rules of style apply to its own elements only."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace

from mpikit.report.figures import (
    NUMBER,
    Bars,
    Dots,
    Figure,
    Lines,
    Page,
    Pictures,
    Section,
    Shown,
    Stack,
    Table,
    Timeline,
)
from mpikit.report.markup import Markup, element, joined
from mpikit.report.svg import bars_svg, dots_svg, lines_svg, stack_svg, timeline_svg

MOST_OPEN = 12  # rows of a table without a figure

STYLE = """
.vr{--paper:#fff;--ink:#16191d;--muted:#565e69;--grid:#e4e7eb;--line:#c6ccd4;--card:#f6f7f9;--good:#166534;--bad:#b42318;
--c0:#1d4ed8;--c1:#b45309;--c2:#047857;--c3:#9333ea;--s1:#c2410c;--s2:#0f766e;--s3:#7e22ce;--s4:#475569;--s5:#a16207;
background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
margin:0 auto;padding:28px 24px 40px;max-width:1240px;box-sizing:border-box;overflow-wrap:break-word}
@media (prefers-color-scheme:dark){.vr{--paper:#14171c;--ink:#e8eaed;--muted:#a3abb6;--grid:#2a2f37;--line:#454d58;
--card:#1c2027;--good:#4ade80;--bad:#ff8a7a;--c0:#7aa8ff;--c1:#f5a04c;--c2:#3ecf9a;--c3:#c79bff;--s1:#f5a04c;
--s2:#3ecf9a;--s3:#c79bff;--s4:#94a3b8;--s5:#e3c04c}html:has(.vr-page){background:#14171c}}
@media print{.vr{--paper:#fff;--ink:#000;--muted:#444;--grid:#ddd;--line:#999;--card:#fff;--good:#166534;--bad:#b42318;
--c0:#1d4ed8;--c1:#b45309;--c2:#047857;--c3:#9333ea;--s1:#c2410c;--s2:#0f766e;--s3:#7e22ce;--s4:#475569;--s5:#a16207;
padding:0;max-width:none;font-size:12px}}
.vr-page{margin:0}
.vr *{box-sizing:border-box}
.vr h1{font-size:26px;line-height:1.2;margin:0 0 10px;overflow-wrap:anywhere}
.vr h2{font-size:18px;line-height:1.3;margin:30px 0 10px;padding-top:14px;border-top:1px solid var(--grid)}
.vr h3{font-size:14px;margin:0 0 4px;font-weight:600}
.vr p{margin:0 0 10px;max-width:80ch}
.vr .verdict{font-size:17px;margin:0 0 14px;padding:12px 16px;background:var(--card);border-left:5px solid var(--muted);
max-width:none;overflow-wrap:anywhere}
.vr .verdict.good{border-color:var(--good)}.vr .verdict.failed{border-color:var(--bad)}
.vr nav{font-size:13px;line-height:1.9}
.vr nav ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:0 16px}
.vr a{color:var(--c0);text-underline-offset:2px}
.vr dl{display:grid;grid-template-columns:minmax(120px,max-content) 1fr;gap:4px 20px;margin:0 0 14px}
.vr dt{color:var(--muted)}.vr dd{margin:0;overflow-wrap:anywhere}
@media (min-width:900px){.vr dl.two{grid-template-columns:max-content 1fr max-content 1fr}}
.vr dd.code{grid-column:1/-1;padding:6px 10px;
font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--card)}
.vr dd.code span{display:inline-block;max-width:100%}
.vr .tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:22px 28px}
.vr figure{margin:0 0 14px;min-width:0;overflow-x:clip}
.vr .wide{max-width:760px}
.vr svg{overflow:visible}.vr figure>svg{display:block;width:100%;font-size:11.5px}
.vr svg text{fill:var(--ink)}.vr svg .muted{fill:var(--muted)}.vr svg .small{fill:var(--muted);font-size:10.5px}
.vr svg .grid{stroke:var(--grid);fill:none}.vr svg .axis{stroke:var(--line);fill:none}
.vr svg .restart{stroke:var(--muted);fill:none;stroke-dasharray:1.5 3}
.vr svg .limit{stroke:var(--bad);fill:none;stroke-width:1.4;stroke-dasharray:6 4}
.vr svg .line{fill:none;stroke-width:1.7;stroke-linejoin:round}
.vr svg .line.c0{stroke:var(--c0)}.vr svg .line.c1{stroke:var(--c1);stroke-dasharray:6 3}
.vr svg .line.c2{stroke:var(--c2);stroke-dasharray:2 2.5}.vr svg .line.c3{stroke:var(--c3);stroke-dasharray:9 3 2 3}
.vr svg .fill.c0{fill:var(--c0)}.vr svg .fill.c1{fill:var(--c1)}
.vr svg .fill.c2{fill:var(--c2)}.vr svg .fill.c3{fill:var(--c3)}
.vr svg .fill.bad{fill:var(--bad)}.vr svg .track{fill:var(--grid)}
.vr svg .part{stroke:var(--paper);stroke-width:1.5}.vr svg .on{fill:var(--paper);font-weight:600}
.vr svg .part.s0{fill:var(--c0)}.vr svg .part.s1{fill:var(--s1)}.vr svg .part.s2{fill:var(--s2)}
.vr svg .part.s3{fill:var(--s3)}.vr svg .part.s4{fill:var(--s4)}.vr svg .part.s5{fill:var(--s5)}
.vr details{margin:6px 0 0;font-size:13px}.vr summary{cursor:pointer;color:var(--muted);width:max-content}
.vr .scroll{overflow-x:auto;max-width:100%}
.vr table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:4px 0}
.vr caption{text-align:left;color:var(--muted);padding:0 0 4px}
.vr th,.vr td{padding:3px 14px 3px 0;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}
.vr td{max-width:60ch;overflow-wrap:break-word}.vr td:first-child{min-width:7em}
.vr th{font-weight:600;color:var(--muted);white-space:nowrap}.vr .num{text-align:right;white-space:nowrap}
.vr .sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(120px,1fr));gap:14px;
list-style:none;margin:0;padding:0}
.vr .sheet.maps{grid-template-columns:repeat(auto-fill,minmax(220px,1fr))}
.vr .sheet img{display:block;width:100%;height:auto;border:3px solid transparent;background:var(--card)}
.vr .sheet .wrong img{border:3px dashed var(--bad)}
.vr .sheet span{display:block;font-size:12.5px;line-height:1.35;margin-top:4px;overflow-wrap:anywhere}
.vr .sheet b{color:var(--bad)}
@media print{.vr nav,.vr details:not([open]){display:none}.vr h2{margin-top:18px}.vr h2,.vr h3{break-after:avoid}
.vr figure,.vr tr,.vr .sheet li{break-inside:avoid}.vr figure:has(.sheet){break-inside:auto}
.vr .tiles{grid-template-columns:1fr 1fr}.vr .sheet{grid-template-columns:repeat(6,1fr)}
.vr .sheet.maps{grid-template-columns:repeat(3,1fr)}}
.vr footer{margin-top:36px;padding-top:12px;border-top:1px solid var(--grid);color:var(--muted);font-size:13px}
"""


def html_page(page: Page, version: str) -> str:
    """Return the page as a document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{page.title}: report"),
        element("style", Markup(STYLE)),
    )
    body = element(
        "body", element("div", element("main", _content(page)), _footer(version), class_="vr"), class_="vr-page"
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _content(page: Page) -> Iterator[Markup]:
    shown = [section for section in page.sections if not section.missing]
    kind = {True: "verdict good", False: "verdict failed", None: "verdict"}[page.good]
    yield element("h1", page.title)
    yield element("p", page.verdict, class_=kind)
    links = [element("li", element("a", section.title, href=f"#{section.key}")) for section in shown]
    yield element("nav", element("ul", links), aria_label="Sections")
    yield from (_section(section) for section in shown)
    absent = [section for section in page.sections if section.missing]
    if absent:
        rows = [(element("dt", section.title), element("dd", section.missing)) for section in absent]
        yield element(
            "section", element("h2", "Not shown", id="not-shown"), element("dl", rows), aria_labelledby="not-shown"
        )


def _footer(version: str) -> Markup:
    return element("footer", f"Written by vit-mpijob {version}. All values are in the files of the run and in -o json.")


def _section(section: Section) -> Markup:
    shown = [_shown(one, small=section.side_by_side) for one in section.shown]
    facts = [(element("dt", name), _fact(name, value)) for name, value in section.facts]
    return element(
        "section",
        element("h2", section.title, id=section.key),
        [element("p", lead) for lead in section.lead],
        element("ul", [element("li", point) for point in section.points]) if section.points else None,
        element("dl", facts, class_="two" if section.side_by_side else None) if facts else None,
        element("div", shown, class_="tiles") if shown and section.side_by_side else shown,
        aria_labelledby=section.key,
    )


def _fact(name: str, value: str) -> Markup:
    """Return a value; the words of a command break between them only."""
    if not name.startswith("command"):
        return element("dd", value)
    return element("dd", [joined(element("span", word), " ") for word in value.split(" ")], class_="code")


def _shown(shown: Shown, *, small: bool) -> Markup:
    """Return a figure with its values in a table that opens, or the table alone."""
    title = element("h3", shown.title) if shown.title else None
    if shown.figure is None:
        return joined(title, _long_table(shown.table) if shown.table else None)
    values = element("details", element("summary", "Values"), _table(shown.table)) if shown.table else None
    title = element("figcaption", title) if title else None
    wide = None if small or isinstance(shown.figure, Pictures) else "wide"
    return element("figure", title, _drawn(shown.figure), values, class_=wide)


def _long_table(table: Table) -> Markup:
    """Return a table of which only the first rows are visible at once."""
    if len(table.rows) <= MOST_OPEN:
        return _table(table)
    first = replace(table, rows=table.rows[:MOST_OPEN], total=MOST_OPEN)
    return joined(_table(first), element("details", element("summary", f"All {table.total:,}"), _table(table)))


def _drawn(figure: Figure) -> Markup:
    match figure:
        case Lines():
            return lines_svg(figure)
        case Bars():
            return bars_svg(figure)
        case Stack():
            return stack_svg(figure)
        case Timeline():
            return timeline_svg(figure)
        case Dots():
            return dots_svg(figure)
        case Pictures():
            return _sheet(figure)


def _sheet(figure: Pictures) -> Markup:
    items = [
        element(
            "li",
            element("img", src=f"data:image/jpeg;base64,{base64.b64encode(one.jpeg).decode()}", alt=one.alt),
            element("span", element("b", "wrong: ") if one.wrong else None, one.caption),
            class_="wrong" if one.wrong else None,
        )
        for one in figure.pictures
    ]
    return element("ul", items, class_="sheet maps" if figure.large else "sheet")


def _table(table: Table) -> Markup:
    right = [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*table.rows, strict=True)] or [False]
    kinds = ["num" if one else None for one in right]
    heads = [element("th", head, scope="col", class_=kind) for head, kind in zip(table.heads, kinds, strict=False)]
    rows = [
        element("tr", [element("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)])
        for row in table.rows
    ]
    more = f"{len(table.rows)} of {table.total:,} rows; -o json has all." if table.total > len(table.rows) else None
    content = element("table", element("thead", element("tr", heads)), element("tbody", rows))
    return joined(element("div", content, class_="scroll", tabindex="0"), element("p", more) if more else None)
