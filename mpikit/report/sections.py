# SPDX-License-Identifier: Apache-2.0
"""The sections of a report of one run, in their order; one without content says why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from mpikit.report.curves import PLOTS, restarts, short, shown_plots
from mpikit.report.figures import MOST_ROWS, Bars, Page, Picture, Pictures, Section, Shown, table
from mpikit.report.files import Unreadable, read_jpeg
from mpikit.report.flags import changed, command
from mpikit.report.flags import shown as shown_value
from mpikit.report.reliability import attempts_section, goodput_section, ranks_section
from mpikit.report.run import ClassResult, Run, Sample
from mpikit.report.verdict import (
    best_evaluation,
    last_evaluation,
    median_of,
    verdict_of,
    wait_share,
    warnings_of,
)

MOST_CLASS_BARS = 20
MOST_SAMPLES, MOST_MAPS = 40, 12
MOST_IMAGE_BYTES = 300_000  # of all pictures, in base64


def page_of(run: Run, now: float, hidden: str = "") -> Page:
    """Return the report of a run; `hidden` is why it has no pictures."""
    verdict = verdict_of(run, now)
    samples, maps = ((), ()) if hidden else pictures_of(run)
    sections = (
        accuracy_section(run),
        warnings_section(run),
        curves_section(run),
        goodput_section(run),
        attempts_section(run),
        ranks_section(run),
        classes_section(run),
        pairs_section(run),
        pictures_section("samples", "Sample predictions", run, samples, hidden),
        pictures_section("attention", "Attention maps", run, maps, hidden),
        checkpoints_section(run),
        machine_section(run),
        values_section(run),
    )
    return Page(run.name, verdict.sentence, verdict.good, sections)


def accuracy_section(run: Run) -> Section:
    """Return final and best accuracy, and the figures of the whole run."""
    section = Section("summary", "Summary", side_by_side=True)
    for label, row in (("final", last_evaluation(run)), ("best", best_evaluation(run))):
        if row is not None:
            top5 = f", top-5 {row['top5_percent']:.2f} %" if "top5_percent" in row else ""
            section.facts.append(
                (f"{label} accuracy", f"top-1 {row['top1_percent']:.2f} %{top5}, step {row['step']:,.0f}")
            )
    last = last_evaluation(run)
    if last and "eval_images" in last:
        section.facts.append(("validation images", f"{last['eval_images']:,.0f}"))
    losses = [row for row in run.rows if "loss" in row]
    if losses:
        section.facts.append(("last training loss", f"{short(losses[-1]['loss'])}, step {losses[-1]['step']:,.0f}"))
    if run.rows:
        steps = f"{run.step or 0:,}" + (f" of {run.num_steps:,}" if run.num_steps else "")
        epochs = run.rows[-1].get("epoch")
        section.facts.append(("steps", steps + (f", {epochs:.2f} epochs" if epochs is not None else "")))
    section.facts += _speed(run)
    if run.written is not None:
        section.facts.append(("last written", moment(run.written)))
    if not section.facts:
        section.missing = _absent(run, "metrics.jsonl", "it has no line yet")
    return section


def warnings_section(run: Run) -> Section:
    """What deserves attention."""
    found = warnings_of(run)
    if not found:
        return Section("warnings", "Warnings", lead=["The files of the run contain no warning."])
    more = [f"{len(found) - MOST_ROWS:,} more warnings are in -o json"] if len(found) > MOST_ROWS else []
    return Section("warnings", "Warnings", points=[*found[:MOST_ROWS], *more])


def curves_section(run: Run) -> Section:
    """Everything that is measured over the steps."""
    shown = shown_plots(run, PLOTS)
    missing = "" if shown else _absent(run, "metrics.jsonl", "it has no such values")
    section = Section("curves", "Curves", shown=shown, missing=missing, side_by_side=True)
    if restarts(run):
        section.lead = ["Dotted lines are restarts, with the number of the attempt that began there."]
    return section


def _speed(run: Run) -> Iterator[tuple[str, str]]:
    """Yield speed, step time and the share of waiting for images."""
    step, share, speed = median_of(run, "step_seconds"), wait_share(run), median_of(run, "images_per_second")
    if speed is not None:
        yield "images per second", f"{short(speed)} (median)"
    if step is not None:
        yield "time of a step", f"{short(step)} s (median)"
    if share is not None:
        yield "waiting for images", f"{100 * share:.1f} % of the step time"
    for key, label, unit in (("mfu_percent", "MFU", "%"), ("peak_memory_gib", "device memory of rank 0", "GiB")):
        values = [row[key] for row in run.rows if key in row]
        if values:
            yield label, f"{short(values[-1])} {unit}"


def classes_section(run: Run) -> Section:
    """Accuracy of each class, worst first."""
    if not run.classes:
        return Section(
            "classes", "Accuracy of each class", missing=_absent(run, "evaluation/classes.json", "it has no class")
        )
    worst = sorted(run.classes, key=lambda one: (one.percent, -one.images, one.number))
    bars = tuple((one.name, one.percent, f"{one.percent:.1f} %") for one in worst[:MOST_CLASS_BARS])
    some = f", the {len(bars)} worst of {len(worst):,} classes" if len(worst) > len(bars) else ", worst first"
    title = f"Top-1 in percent{some}"
    rows = [_class_row(one) for one in worst]
    section = Section("classes", "Accuracy of each class")
    section.facts = [
        ("classes", f"{len(worst):,}"),
        ("median", f"{sorted(one.percent for one in worst)[len(worst) // 2]:.1f} %"),
        ("all images right", f"{sum(one.top1 == one.images for one in worst):,} classes"),
    ]
    section.shown = [
        Shown(Bars(title, bars, 100.0), table(["class", "images", "right", "top-1 %", "top-5 %"], rows), title)
    ]
    return section


def _class_row(one: ClassResult) -> list[str]:
    top5 = "" if one.top5 is None else f"{100 * one.top5 / one.images:.1f}"
    return [one.name, f"{one.images:,}", f"{one.top1:,}", f"{one.percent:.1f}", top5]


def pairs_section(run: Run) -> Section:
    """The most frequent confusions."""
    if not run.pairs:
        return Section(
            "confusions", "Confusions", missing=_absent(run, "evaluation/classes.json", "it has no pair of classes")
        )
    images = {one.number: one.images for one in run.classes}
    rows = [
        [
            run.class_name(true),
            run.class_name(guess),
            f"{count:,}",
            f"{100 * count / images[true]:.1f}" if images.get(true) else "",
        ]
        for true, guess, count in run.pairs
    ]
    heads = ["class", "predicted as", "images", "% of the class"]
    return Section("confusions", "Confusions", shown=[Shown(None, table(heads, rows), "Most frequent first")])


def pictures_of(run: Run) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Return sample predictions, wrong ones first, and attention maps, all together within MOST_IMAGE_BYTES."""
    ordered = sorted(run.samples, key=lambda sample: sample.right)
    left = MOST_IMAGE_BYTES
    found: list[list[Picture]] = [[], []]
    for names, pictures, most, share in (
        ([one.attention for one in ordered], found[1], MOST_MAPS, 0.4),
        ([one.file for one in ordered], found[0], MOST_SAMPLES, 1.0),
    ):
        room = int(left * share)
        for name, sample in zip(names, ordered, strict=True):
            picture = _picture(run, name, sample) if name and len(pictures) < most else None
            size = 0 if picture is None else 4 * -(-len(picture.jpeg) // 3)
            if picture is not None and size <= room:
                pictures.append(picture)
                room, left = room - size, left - size
    return tuple(found[0]), tuple(found[1])


def _picture(run: Run, name: str, sample: Sample) -> Picture | None:
    try:
        jpeg = read_jpeg(run.path / "evaluation", name)
    except Unreadable:
        return None
    true = run.class_name(sample.true)
    if not sample.guesses:
        return Picture(jpeg, f"image of class {true}", true)
    guess, chance = sample.guesses[0]
    said = f"{run.class_name(guess)} ({100 * chance:.0f} %)"
    if sample.right:
        return Picture(jpeg, f"{true}, predicted right", said)
    return Picture(jpeg, f"{true}, predicted as {run.class_name(guess)}", f"{said}, is {true}", wrong=True)


def pictures_section(key: str, title: str, run: Run, pictures: tuple[Picture, ...], hidden: str) -> Section:
    """Return a contact sheet."""
    if not pictures:
        why = hidden or _absent(run, "evaluation/samples.json", "it names no picture that can be shown")
        return Section(key, title, missing=why)
    wrong = sum(picture.wrong for picture in pictures)
    lead = [f"{len(pictures)} of the validation images, wrong predictions first: {wrong} of them."]
    rows = [["wrong" if one.wrong else "right", one.caption] for one in pictures]
    return Section(
        key,
        title,
        lead=lead,
        shown=[Shown(Pictures(title, pictures, large=key == "attention"), table(["result", "prediction"], rows))],
    )


def checkpoints_section(run: Run) -> Section:
    """The checkpoints that are kept."""
    rows = [
        [
            one.name,
            f"{one.step:,}",
            "" if one.top1_percent is None else f"{one.top1_percent:.2f}",
            f"{one.num_bytes / 2**20:,.1f}",
            one.marks,
        ]
        for one in run.checkpoints
    ]
    if not rows:
        return Section("checkpoints", "Checkpoints", missing="checkpoints/ has no complete checkpoint")
    heads = ["folder", "step", "top-1 %", "MiB", "pointer"]
    return Section("checkpoints", "Checkpoints", shown=[Shown(None, table(heads, rows))])


def machine_section(run: Run) -> Section:
    """What the trainer said before step 1: devices, data, model; and the hosts of the ranks."""
    section = Section("machine", "Versions, devices and hosts")
    said = [
        (name, rest) for name, colon, rest in (line.partition(": ") for line in run.log) if colon and name.isalpha()
    ]
    said = [(name, rest) for name, rest in said if name != "warning"]
    if not said:
        known = (("derived_device", "device"), ("derived_world_size", "ranks"))
        said = [(label, shown_value(run.config[key])) for key, label in known if key in run.config]
    section.facts += said
    hosts = sorted({rank.host for rank in run.ranks if rank.host})
    if hosts:
        more = f" and {len(hosts) - 20} more" if len(hosts) > 20 else ""
        section.facts.append((f"hosts ({len(hosts)})", ", ".join(hosts[:20]) + more))
    facts = run.config.get("facts")
    section.facts += [
        (str(name), shown_value(value)) for name, value in (facts.items() if isinstance(facts, dict) else ())
    ]
    if not section.facts:
        section.missing = "neither config.json nor a log names them"
    return section


def values_section(run: Run) -> Section:
    """The flags that were changed, and the command."""
    if not run.config:
        return Section("values", "Changed values and the command", missing=_absent(run, "config.json", "it is empty"))
    rows = [[name, shown_value(value)] for name, value in changed(run.config).items()]
    section = Section("values", "Changed values and the command", facts=[("command of a rank", command(run.config))])
    section.shown = [Shown(None, table(["flag", "value"], rows), "Flags that differ from the trainer's defaults")]
    return section


def moment(seconds: float) -> str:
    """Return a time as people read it, in UTC."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _absent(run: Run, name: str, otherwise: str) -> str:
    return run.absent.get(name) or f"{name}: {otherwise}"
