# SPDX-License-Identifier: Apache-2.0
"""The sections on time and ranks: goodput, attempts with their causes, stragglers."""

from __future__ import annotations

from mpikit.report.curves import short
from mpikit.report.figures import Dots, Section, Shown, Span, Stack, Timeline, table
from mpikit.report.run import Attempt, Rank, Run
from mpikit.report.verdict import SLOW_SCORE, goodput, spent
from mpikit.text.units import duration

MOST_SPANS = 30
MOST_DOTS = 800
NAMES = {
    "step": "training steps",
    "data": "waiting for data",
    "init": "initialization",
    "compile": "compilation",
    "load": "loading checkpoints",
    "eval": "evaluation",
    "save": "saving checkpoints",
    "redone": "repeated steps",
    "waiting_for_pods": "waiting for pods",
    "hang": "hang",
    "idle": "idle after a failure",
    "other": "other",
}
"""Keys of the seconds in goodput.jsonl, named as in the log of the launcher."""


def goodput_section(run: Run) -> Section:
    """Where the time went."""
    total, share = spent(run), goodput(run)
    if share is None:
        why = run.absent.get("goodput.jsonl", "goodput.jsonl has no times")
        return Section("goodput", "Goodput", missing=why)
    whole = sum(total.values())
    parts = tuple((NAMES.get(name, name), value, f"{100 * value / whole:.1f} %") for name, value in total.items())
    rows = [[name, f"{value:,.0f}", f"{100 * value / whole:.1f}"] for name, value, _ in parts]
    section = Section("goodput", "Goodput")
    section.facts = [("goodput", f"{100 * share:.1f} % of {duration(whole)} went into steps that count")]
    title = "Time of all attempts"
    section.shown = [Shown(Stack(title, parts), table(["spent on", "seconds", "%"], rows), title)]
    return section


def attempts_section(run: Run) -> Section:
    """Attempts and why they ended."""
    if not run.attempts:
        why = run.absent.get("attempts.jsonl", "attempts.jsonl has no attempt")
        return Section("attempts", "Attempts", missing=why)
    section = Section("attempts", "Attempts")
    rows = [_attempt_row(attempt) for attempt in run.attempts]
    heads = ["attempt", "time", "from step", "to step", "steps lost", "exit code", "end"]
    section.shown = [Shown(_timeline(run.attempts), table(heads, rows), "Timeline")]
    return section


def _attempt_row(attempt: Attempt) -> list[str]:
    steps = (attempt.first_step, attempt.last_step, attempt.steps_lost, attempt.exit_code)
    time = "" if attempt.seconds is None else duration(attempt.seconds)
    return [str(attempt.number), time, *("" if one is None else f"{one:,}" for one in steps), attempt.cause]


def _timeline(attempts: list[Attempt]) -> Timeline | None:
    """Return the last attempts on one axis, if their times are known."""
    timed = [(one, one.start, one.end) for one in attempts[-MOST_SPANS:]]
    known = [(one, start, end) for one, start, end in timed if start is not None and end is not None]
    if not known:
        return None
    first = min(start for _, start, _ in known)
    spans = tuple(Span(str(one.number), start - first, end - first, one.cause) for one, start, end in known)
    return Timeline("Attempts" if len(known) == len(attempts) else f"The last {len(known)} attempts", spans)


def ranks_section(run: Run) -> Section:
    """Speed of the ranks beside each other."""
    scored = [rank for rank in run.ranks if rank.score is not None]
    if not scored:
        why = run.absent.get("ranks.json", "ranks.json has no score")
        return Section("ranks", "Ranks", missing=why)
    slow = [rank for rank in scored if (rank.score or 0.0) < SLOW_SCORE]
    section = Section("ranks", "Ranks")
    section.facts = [
        ("ranks", f"{len(run.ranks):,} on {len({rank.host for rank in run.ranks}):,} hosts"),
        (f"below {SLOW_SCORE:g}", ", ".join(f"{rank.number} ({rank.host})" for rank in slow[:10]) or "none"),
    ]
    dots = tuple((float(one.number), one.score or 0.0, one.host) for one in _drawn(scored))
    title = "Score: speed of each rank, 1 = as fast as the others"
    figure = Dots(title, "rank", dots, SLOW_SCORE, f"{SLOW_SCORE:g}: straggler below")
    worst = sorted(scored, key=lambda one: (one.score or 0.0, one.number))
    heads = ["rank", "host", "score", "step s", "data s", "images/s", "memory GiB"]
    section.shown = [Shown(figure, table(heads, [_rank_row(one) for one in worst]), title)]
    return section


def _drawn(scored: list[Rank]) -> list[Rank]:
    """Return at most MOST_DOTS ranks: the slowest ones, and evenly chosen others."""
    if len(scored) <= MOST_DOTS:
        return scored
    ordered = sorted(scored, key=lambda one: one.score or 0.0)
    others = ordered[MOST_DOTS // 2 :]
    return ordered[: MOST_DOTS // 2] + others[:: -(-2 * len(others) // MOST_DOTS)]


def _rank_row(rank: Rank) -> list[str]:
    cells = [rank.values.get(key) for key in ("step_seconds", "data_seconds", "images_per_second")]
    memory = rank.values.get("memory_bytes")
    numbers = ["" if value is None else short(value) for value in cells]
    return [
        str(rank.number),
        rank.host,
        f"{rank.score:.2f}" if rank.score is not None else "",
        *numbers,
        "" if memory is None else f"{memory / 2**30:.1f}",
    ]
