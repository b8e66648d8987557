# SPDX-License-Identifier: Apache-2.0
"""The end of scripts/demo: the report of the run, its curves in the terminal, and what to do next.

python scripts/demo_report.py RUN SECONDS: the report goes to RUN/report.html.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mpikit.report.curves import PLOTS, shown_plots  # noqa: E402  # after the path
from mpikit.report.figures import Lines  # noqa: E402
from mpikit.report.page import html_page  # noqa: E402
from mpikit.report.run import Run, read_run  # noqa: E402
from mpikit.report.sections import page_of  # noqa: E402
from mpikit.report.text import text_plots  # noqa: E402
from mpikit.report.verdict import last_evaluation, median_of  # noqa: E402
from mpikit.resources import version  # noqa: E402
from mpikit.text.units import duration  # noqa: E402


def main(folder: Path, seconds: float) -> None:
    run, report = read_run(folder), folder / "report.html"
    trained = not report.exists() or report.stat().st_mtime < (folder / "last").stat().st_mtime
    report.write_text(html_page(page_of(run, time.time()), version()), encoding="utf-8")
    plots = [shown.figure for shown in shown_plots(run, PLOTS[:2]) if isinstance(shown.figure, Lines)]
    curves = "\n".join(text_plots(plots))
    sys.stdout.write(f"\n{curves}\n\n{summary(run, seconds if trained else None, report)}")


def summary(run: Run, seconds: float | None, report: Path) -> str:
    """Numbers, places, next steps; without `seconds`, nothing was trained now."""
    spent = "" if seconds is None else f"{duration(seconds)} in all; "
    last = last_evaluation(run) or {}
    accuracy = f"{last['top1_percent']:.1f} % top-1 of {last['eval_images']:.0f} held-out digits"
    return f"""\
accuracy     {accuracy} at step {last["step"]:,.0f}
time         {spent}{median_of(run, "images_per_second") or 0:.0f} images/s in training
report       {report}: open it in a browser; with held-out digits and the model's answers
run          {run.path}: metrics.jsonl, checkpoints/; `best` and `last` name the checkpoints
manifest     build/demo.yaml, which kubectl apply would get

next
  scripts/demo --fresh                    train again; the old run is kept
  python generate.py init                 write values/user.yaml for your cluster
  python generate.py doctor               check the cluster before you submit
"""


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
