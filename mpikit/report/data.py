# SPDX-License-Identifier: Apache-2.0
"""A report as JSON: all rows, nothing thinned."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mpikit.report.figures import Page
from mpikit.report.flags import changed, command
from mpikit.report.run import Run
from mpikit.report.verdict import best_evaluation, goodput, last_evaluation, spent, wait_share, warnings_of


def as_dict(run: Run, page: Page) -> dict[str, Any]:
    """Return everything that is known of a run. Fields may be added, but not renamed."""
    return {
        "name": run.name,
        "verdict": page.verdict,
        "complete": page.good,
        "step": run.step,
        "num_steps": run.num_steps,
        "final": last_evaluation(run),
        "best": best_evaluation(run),
        "goodput": goodput(run),
        "seconds": spent(run),
        "data_wait_share": wait_share(run),
        "metrics": run.rows,
        "events": run.events,
        "attempts": [asdict(attempt) | {"start": attempt.start} for attempt in run.attempts],
        "ranks": [{"rank": rank.number, "host": rank.host, **rank.values} for rank in run.ranks],
        "classes": [asdict(one) for one in run.classes],
        "pairs": [{"true": true, "predicted": guess, "count": count} for true, guess, count in run.pairs],
        "samples": [asdict(sample) for sample in run.samples],
        "checkpoints": [asdict(checkpoint) for checkpoint in run.checkpoints],
        "warnings": warnings_of(run),
        "changed": changed(run.config),
        "command": command(run.config),
        "config": run.config,
        "log": run.log,
        "missing": [
            {"section": section.key, "reason": section.missing} for section in page.sections if section.missing
        ],
    }
