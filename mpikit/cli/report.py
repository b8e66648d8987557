# SPDX-License-Identifier: Apache-2.0
"""The verb report: a run's folder as a page."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpikit.cli.context import CommandContext, Session
from mpikit.cli.help import Verb
from mpikit.cli.options import submit_options
from mpikit.errors import KitError, NotFound, one_fault
from mpikit.resources import version
from mpikit.text.quoting import shown
from mpikit.text.terminal import show, show_data, talk

if TYPE_CHECKING:
    from mpikit.report.run import Run

FORMATS = {".html": "html", ".htm": "html", ".json": "json"}
WIDEST = 100


@click.command(cls=Verb)
@click.argument("runs", metavar="[RUN] [RUN]", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "html"]),
    help="Format of the result.  [default: that of the name of --out, else text]",
)
@click.option("--out", "target", metavar="FILE", help="Write the report to FILE instead of printing it.")
@click.option("--no-images", is_flag=True, help="Leave out pictures from the dataset.")
@click.option("--cluster", "there", is_flag=True, help="Read the run from `output` on the cluster, with a small pod.")
@submit_options
@click.pass_obj
def report(
    context: CommandContext,
    runs: tuple[str, ...],
    output: str | None,
    target: str | None,
    no_images: bool,
    there: bool,
) -> None:
    """Show a run on one page: accuracy, curves, goodput, restarts, slow ranks, classes.

    RUN is the folder of a run, or the name of one in `output` of the values; by default it is that of train.name. Two
    runs are compared. The HTML page is one file without scripts and outside references.

    With --cluster, a small pod mounts `output` of the values read-only, prints the files of the run, and is deleted.

    \b
        python generate.py report output/flowers --out flowers.html
    """
    form = output or FORMATS.get(Path(target or "").suffix.lower(), "text")
    if form == "html" and target is None and sys.stdout.isatty():
        raise one_fault("", "is needed: an HTML page is not for a terminal", "--out report.html", "--out")
    hidden = "left out with --no-images" if no_images else "" if form == "html" else "only the HTML page has pictures"
    with tempfile.TemporaryDirectory(prefix="mpikit-report-") as folder:
        names = [_fetched(context, name, Path(folder)) if there else name for name in _names(context, runs)]
        text = _report([_run(context, name) for name in names], form, hidden)
    if target is None:
        show_data(text) if form != "text" else show(text.rstrip("\n"))
        return
    _write(Path(target), text)
    talk(f"report: {target}")


def _names(context: CommandContext, runs: tuple[str, ...]) -> tuple[str, ...]:
    if len(runs) > 2:
        raise one_fault("", "more than two runs cannot be compared", "name one or two runs", "RUN")
    return runs or (context.load().job.train.name,)


def _run(context: CommandContext, name: str) -> Run:
    """Return the run with this path or name. Raises NotFound, KitError."""
    from mpikit.report.run import is_run, read_run

    path = Path(name)
    if not path.is_dir():
        places = (_output(context) / name, Path("output") / name)
        path = next((place for place in places if place.is_dir()), places[0])
    if not path.is_dir():
        fix = f"name a folder of this machine; if it is on the cluster: python generate.py report {path.name} --cluster"
        raise NotFound(f"{path} does not exist on this machine", fix)
    if not is_run(path):
        raise KitError(f"{path} does not contain a run: it has no config.json and no metrics.jsonl", "name output/NAME")
    return read_run(path.absolute())


def _fetched(context: CommandContext, name: str, folder: Path) -> str:
    """Copy what a report needs of a run on the cluster into a folder; return its path. Raises KitError."""
    from mpikit.lifecycle.reader import read_run as read_there
    from mpikit.report.run import FILES

    if "/" in name or name in ("", ".", ".."):
        fix = "write the name of a run in `output`, without /"
        raise one_fault("", f"{shown(name)} is not the name of a run on the cluster", fix, "RUN")
    session = Session(context)
    mpijob = next(item for item in context.manifest.objects if item["kind"] == "MPIJob")
    files = read_there(session.cluster, session.namespace, mpijob, name, FILES)
    for path, file in files.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_bytes(file.content)
        os.utime(folder / name / path, (file.modified, file.modified))
    if not files:
        raise KitError(f"{name} on the cluster does not contain a run: it has no file of one", "name another run")
    return str(folder / name)


def _output(context: CommandContext) -> Path:
    """Return the output folder of the values as one of this machine; `output` if they do not say."""
    output = context.load().job.output
    return Path(output) if isinstance(output, str) else Path("output")


def _report(runs: list[Run], form: str, hidden: str) -> str:
    """Return the page of one run or of two."""
    from mpikit.report.compare import compared_page
    from mpikit.report.data import as_dict
    from mpikit.report.page import html_page
    from mpikit.report.sections import page_of
    from mpikit.report.text import text_page

    now = time.time()
    pages = [page_of(run, now, hidden) for run in runs]
    page = pages[0] if len(runs) == 1 else compared_page(runs[0], runs[1], now)
    if form == "html":
        return html_page(page, version())
    if form == "text":
        return text_page(page, min(WIDEST, shutil.get_terminal_size().columns)) + "\n"
    found = [as_dict(run, one) for run, one in zip(runs, pages, strict=True)]
    return json.dumps(found[0] if len(found) == 1 else {"verdict": page.verdict, "runs": found}, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises KitError."""
    from mpikit.render.output import write_one

    write_one(path, text.encode())


REPORTS = (report,)
