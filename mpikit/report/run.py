# SPDX-License-Identifier: Apache-2.0
"""A run as its folder output/NAME describes it: typed values, bounded texts, and why something is absent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mpikit.diagnostics import shortened
from mpikit.report.files import (
    Row,
    Unreadable,
    number,
    numbers,
    objects,
    read_bytes,
    read_object,
    read_rows,
    read_word,
    text,
    whole,
)
from mpikit.text.redaction import redact

MOST_TEXT = 600  # characters of a cause or a value
LOG_LINES = 40  # at the start of a log: what the trainer says before step 1
MOST_LOGS, MOST_LOG_BYTES = 100, 8 << 20
GROWING = ("metrics.jsonl", "events.jsonl", "attempts.jsonl")
FILES = (
    *("config.json", *GROWING, "goodput.jsonl", "ranks.json", "completion.json", "best", "last"),
    *("evaluation/*.json", "evaluation/*.jpg", "logs/*.log"),
    *("checkpoints/*/MANIFEST.json", "checkpoints/*/state.json"),
)
"""All that a report reads of a run's folder; `*` stands for a name."""
_STEP = re.compile(r"step_(\d{8,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the ranks; times are seconds since 1970."""

    number: int
    seconds: float | None
    end: float | None
    cause: str = ""
    exit_code: int | None = None
    first_step: int | None = None
    last_step: int | None = None
    steps_lost: int | None = None
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds by what they were spent on (goodput.jsonl); empty if not known."""

    @property
    def start(self) -> float | None:
        """end - seconds."""
        return None if self.end is None or self.seconds is None else self.end - self.seconds


@dataclass(frozen=True, slots=True)
class Rank:
    """How fast one rank is, beside the others."""

    number: int
    host: str
    score: float | None
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class ClassResult:
    """Validation images of a class, and how many of them are right."""

    number: int
    name: str
    images: int
    top1: int
    top5: int | None

    @property
    def percent(self) -> float:
        """Top-1 in percent."""
        return 100 * self.top1 / self.images


@dataclass(frozen=True, slots=True)
class Sample:
    """A validation image, its class, and the model's guesses as (class, probability)."""

    file: str
    true: int | None
    guesses: tuple[tuple[int, float], ...]
    attention: str

    @property
    def right(self) -> bool:
        """Whether the first guess is the class."""
        return bool(self.guesses) and self.guesses[0][0] == self.true


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is kept."""

    name: str
    step: int
    num_bytes: int
    top1_percent: float | None
    marks: str
    """best, last, or both."""


@dataclass(kw_only=True, slots=True)
class Run:
    """Everything that a report shows."""

    path: Path
    config: Row = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    """Lines of metrics.jsonl with their numbers only, by step."""
    events: list[Row] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    verdict: tuple[int, str] | None = None
    """Exit code and reason of the launcher's final verdict."""
    ranks: list[Rank] = field(default_factory=list)
    classes: list[ClassResult] = field(default_factory=list)
    class_names: dict[int, str] = field(default_factory=dict)
    pairs: list[tuple[int, int, int]] = field(default_factory=list)
    """(true, predicted, count), most frequent first."""
    samples: list[Sample] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    completed_step: int | None = None
    log: list[str] = field(default_factory=list)
    """What the newest attempt said before step 1."""
    warnings: list[str] = field(default_factory=list)
    """Warnings in the logs of all attempts, each once."""
    written: float | None = None
    """Time of the newest file, in seconds since 1970."""
    absent: dict[str, str] = field(default_factory=dict)
    """Name of a file -> why nothing of it is shown."""

    @property
    def name(self) -> str:
        """The name of the run, which is that of its folder."""
        return self.path.name

    @property
    def num_steps(self) -> int | None:
        """The steps that the run should have."""
        return whole(self.config.get("num_steps")) or (int(self.rows[-1].get("num_steps", 0)) if self.rows else None)

    @property
    def step(self) -> int | None:
        """The last step that is known."""
        steps = [int(self.rows[-1]["step"])] if self.rows else []
        steps += [one for one in (self.completed_step, *(found.step for found in self.checkpoints)) if one]
        return max(steps, default=None)

    @property
    def evaluations(self) -> list[Row]:
        """The lines with an accuracy."""
        return [row for row in self.rows if "top1_percent" in row]

    def class_name(self, number: int | None) -> str:
        """Return the name of a class, or its number."""
        return "unknown" if number is None else self.class_names.get(number, f"class {number}")


def is_run(path: Path) -> bool:
    """Return whether a folder looks like output/NAME."""
    return any((path / name).is_file() for name in ("config.json", "metrics.jsonl", "attempts.jsonl"))


def read_run(path: Path) -> Run:
    """Return what the folder contains."""
    run = Run(path=path)
    run.config = {str(key): _clean(value) for key, value in _object(run, "config.json").items()}
    run.rows = sorted(filter(None, map(_metrics, _lines(run, "metrics.jsonl"))), key=lambda r: r["step"])
    run.events = [_clean(row) for row in _lines(run, "events.jsonl")]
    _add_attempts(run)
    run.ranks = _ranks(_object(run, "ranks.json"))
    _add_evaluation(run)
    run.checkpoints = _checkpoints(path)
    run.completed_step = whole(_object(run, "completion.json").get("step"))
    _add_logs(run)
    run.written = max(filter(None, (_modified(path / name) for name in GROWING)), default=None)
    return run


def _object(run: Run, name: str) -> Row:
    """Return the JSON object of a file; without one, note why."""
    try:
        return read_object(run.path / name)
    except Unreadable as error:
        run.absent[name] = str(error)
        return {}


def _lines(run: Run, name: str) -> list[Row]:
    """Return the JSON lines of a file; without any, note why."""
    try:
        return read_rows(run.path / name)
    except Unreadable as error:
        run.absent[name] = str(error)
        return []


def _clean(value: Any) -> Any:
    """Return a value of JSON without credentials, and with bounded texts."""
    if isinstance(value, str):
        return redact(shortened(value, MOST_TEXT))
    if isinstance(value, dict):
        return {str(key): _clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value[:100]]
    return value


def _metrics(row: Row) -> Row | None:
    found: Row = numbers(row)
    return found if whole(row.get("step")) is not None else None


def _add_attempts(run: Run) -> None:
    """Attempts of attempts.jsonl, with what goodput.jsonl says of each; and the final verdict.

    They are counted over all Jobs of the run, while each Job begins at attempt 1. A launcher that was lost leaves a
    line of goodput.jsonl without an attempt.
    """
    records = [row for row in _lines(run, "attempts.jsonl") if whole(row.get("attempt"))]
    accounts = [row for row in _lines(run, "goodput.jsonl") if numbers(row.get("seconds"))]
    pairs = []
    for record in records:
        same = next((row for row in accounts if _mark(row) == _mark(record)), {})
        accounts = [row for row in accounts if row is not same]
        pairs.append((record, same))
        code = whole(record.get("verdict"))
        run.verdict = None if code is None else (code, redact(shortened(text(record.get("why")), MOST_TEXT)))
    pairs += [({}, row) for row in accounts]
    pairs.sort(key=lambda pair: number(pair[1].get("end")) or number(pair[0].get("time")) or 0.0)
    run.attempts = [_attempt(position, *pair) for position, pair in enumerate(pairs, 1)]


def _mark(row: Row) -> tuple[str, object]:
    return text(row.get("job")), whole(row.get("attempt"))


def _attempt(position: int, row: Row, goodput: Row) -> Attempt:
    start, end = number(goodput.get("start")), number(goodput.get("end"))
    seconds = number(row.get("seconds"))
    if start is not None and end is not None and end >= start:
        seconds = end - start
    kind, cause = text(row.get("kind")), text(row.get("cause")) or text(goodput.get("cause"))
    said = ": ".join(filter(None, (kind, cause))) if cause != kind else kind
    if (nodes := whole(row.get("nodes"))) is not None:
        said = f"with {nodes} {'node' if nodes == 1 else 'nodes'}; {said}"
    return Attempt(
        number=position,
        seconds=seconds,
        end=end if end is not None else number(row.get("time")),
        cause=redact(shortened(said, MOST_TEXT)),
        exit_code=whole(row.get("exit_code")),
        first_step=whole(row.get("checkpoint_before")),
        last_step=whole(row.get("last_step")),
        steps_lost=whole(row.get("steps_lost")),
        spent={key: value for key, value in numbers(goodput.get("seconds")).items() if value > 0},
    )


def _ranks(content: Row) -> list[Rank]:
    return [
        Rank(rank, text(row.get("host")), number(row.get("score")), numbers(row))
        for row in objects(content.get("ranks"))
        if (rank := whole(row.get("rank"))) is not None
    ]


def _add_evaluation(run: Run) -> None:
    """Classes, pairs and samples of the last evaluation."""
    counts = _object(run, "evaluation/classes.json")
    for row in objects(counts.get("classes")):
        one, images, top1 = whole(row.get("class")), whole(row.get("images")), whole(row.get("top1"))
        if one is None:
            continue
        run.class_names[one] = shortened(text(row.get("name")), MOST_TEXT) or f"class {one}"
        if images and top1 is not None and top1 <= images:
            run.classes.append(ClassResult(one, run.class_names[one], images, top1, whole(row.get("top5"))))
    for row in objects(counts.get("pairs")):
        true, guess, count = (whole(row.get(key)) for key in ("true", "predicted", "count"))
        if true is not None and guess is not None and count:
            run.pairs.append((true, guess, count))
    samples = _object(run, "evaluation/samples.json")
    run.samples = [_sample(row) for row in objects(samples.get("samples"))]


def _sample(row: Row) -> Sample:
    given = row.get("guesses")
    pairs = [pair for pair in given if isinstance(pair, list) and len(pair) == 2] if isinstance(given, list) else []
    guesses = [(whole(pair[0]), number(pair[1])) for pair in pairs[:5]]
    return Sample(
        file=text(row.get("file")),
        true=whole(row.get("true")),
        guesses=tuple((one, chance) for one, chance in guesses if one is not None and chance is not None),
        attention=text(row.get("attention")),
    )


def _checkpoints(path: Path) -> list[Checkpoint]:
    pointers = {name: read_word(path / name) for name in ("best", "last")}
    found = [_checkpoint(folder, pointers) for folder in _entries(path / "checkpoints")]
    return sorted((one for one in found if one is not None), key=lambda one: one.step)


def _checkpoint(folder: Path, pointers: dict[str, str]) -> Checkpoint | None:
    step = _STEP.fullmatch(folder.name)
    if not step:
        return None
    try:
        manifest, state = read_object(folder / "MANIFEST.json"), read_object(folder / "state.json")
    except Unreadable:
        return None
    files = manifest.get("files")
    sizes = [whole(one.get("bytes")) or 0 for one in objects(list(files.values()) if isinstance(files, dict) else [])]
    marks = ", ".join(name for name, target in pointers.items() if target == folder.name)
    return Checkpoint(folder.name, int(step[1]), sum(sizes), number(state.get("top1_percent")), marks)


def _add_logs(run: Run) -> None:
    """Add the first lines of the newest attempt's log, and the warnings of all."""
    logs = sorted((one for one in _entries(run.path / "logs") if one.stem.isdecimal()), key=lambda one: int(one.stem))
    for log in logs[-MOST_LOGS:]:
        try:
            lines = read_bytes(log, MOST_LOG_BYTES).decode("utf-8", "replace").splitlines()
        except Unreadable as error:
            run.absent[f"logs/{log.name}"] = str(error)
            continue
        clean = [redact(shortened(line, MOST_TEXT)) for line in lines if not line.startswith("step=")]
        run.log = clean[:LOG_LINES]
        found = (line.removeprefix("warning: ") for line in clean if line.startswith("warning: "))
        run.warnings += [line for line in dict.fromkeys(found) if line not in run.warnings]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def event_time(event: Row) -> float | None:
    """Return the time of an event in seconds since 1970."""
    try:
        return datetime.fromisoformat(text(event.get("time")).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
