# SPDX-License-Identifier: Apache-2.0
"""The folder of an invented run with everything that a report shows. It stands in for a trainer on many nodes."""

from __future__ import annotations

import base64
import io
import json
import math
import random
from pathlib import Path
from typing import Any

START = 1_790_000_000.0  # 2026-09-21, seconds since 1970
RESTARTS = (0.22, 0.47, 0.81)  # of the steps, at which an attempt ended
CAUSES = (
    ("a rank or node was lost", "the connection to worker-17 was closed", 6),
    ("a rank hangs", "rank 203 did not answer for 1800 s", 4),
    ("an accelerator or its driver", "rank 40: synStatus 26, device lost", 6),
    ("complete", "", 0),
)
ANIMALS = ("ibex", "lynx", "otter", "heron", "newt", "adder", "moth", "carp", "vole", "crane")
# 1 x 1 pixel, baseline, written for this purpose by Pillow
TINY_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI//////////////////////////////////////////"
    "//////////2wBDAVVaWnhpeOuCguv/////////////////////////////////////////////////////////////////////////wAARCAAB"
    "AAEDASIAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/xAAUAQEAAAAAAAAAAAAAAAAAAAAA/8QAFB"
    "EBAAAAAAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8AAA//2Q=="
)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_reported(
    root: Path,
    name: str = "voyager-b16",
    *,
    steps: int = 20_000,
    ranks: int = 336,
    classes: int = 1000,
    every: int = 50,
) -> Path:
    """Write output/NAME and return it: three restarts, slow ranks on two hosts, hard classes, pictures."""
    run, chance = root / name, random.Random(7)
    for folder in ("evaluation", "logs"):
        (run / folder).mkdir(parents=True)
    write_lines(run / "metrics.jsonl", _metrics(steps, ranks, every, chance))
    _write_attempts(run, steps, ranks)
    (run / "ranks.json").write_text(json.dumps({"step": steps, "ranks": _ranks(ranks, chance)}))
    _write_evaluation(run, steps, classes, chance)
    _write_checkpoints(run, steps)
    config = {"name": name, "dataset": "imagenet1K", "model_type": "ViT-B_16", "num_steps": steps, "autocast": True}
    config |= {"train_batch_size": 2, "data_path": "/dataset", "learning_rate": 0.03, "eval_every": steps // 20}
    (run / "config.json").write_text(json.dumps(config | {"derived_world_size": ranks, "derived_device": "hpu"}))
    (run / "completion.json").write_text(json.dumps({"attempt": "a", "run": name, "step": steps}))
    said = ["device: Gaudi HL-205, 8 cards per node; 336 ranks", "model: ViT-B_16 at 384 px, 577 tokens"]
    said += ["data: train 1,281,167 images in 1,000 classes (732 to 1,300 each)", "warning: rank 41 reads slowly"]
    (run / "logs" / "004.log").write_text("\n".join([*said, "step=50/20000 loss=6.9"]) + "\n")
    return run


def _metrics(steps: int, ranks: int, every: int, chance: random.Random) -> list[dict[str, Any]]:
    rows = []
    for step in range(every, steps + 1, every):
        done, warm = step / steps, min(1.0, step / 500)
        evaluated = step % max(every, steps // 20) == 0 or step == steps
        top1 = 84.2 * (1 - math.exp(-7 * done)) + chance.uniform(-0.4, 0.4)
        data = chance.uniform(0.02, 0.05) + (0.4 if 0.55 < done < 0.6 else 0.0)
        seconds = 0.61 + data + chance.uniform(-0.02, 0.02)
        row: dict[str, Any] = {"step": step, "epoch": 512 * step / 1_281_167, "damaged_images": 0}
        row |= {"loss": 6.9 * math.exp(-9 * done) + 0.85 + chance.uniform(-0.08, 0.08)}
        row |= {"learning_rate": 0.03 * warm * 0.5 * (1 + math.cos(math.pi * done))}
        row |= {"gradient_norm": 0.6 + math.exp(-12 * done) + chance.expovariate(9)}
        row |= {
            "top1_percent": top1 if evaluated else None,
            "top5_percent": min(98.9, top1 + 12) if evaluated else None,
        }
        row |= {"eval_loss": 6.7 * math.exp(-9 * done) + 0.7 if evaluated else None}
        row |= {"eval_images": 50_000 if evaluated else None, "images_per_second": 512 / seconds}
        row |= {"step_seconds": seconds, "data_seconds": data, "mfu_percent": 31.0, "peak_memory_gib": 21.3}
        rows.append(row)
    return rows


def _write_attempts(run: Path, steps: int, ranks: int) -> None:
    """attempts.jsonl, goodput.jsonl and events.jsonl."""
    attempts, goodput, events = [], [], []
    now, first = START, 0
    for number, (kind, cause, code) in enumerate(CAUSES, 1):
        last = steps if code == 0 else round(steps * RESTARTS[number - 1])
        saved = last if code == 0 else last // 1000 * 1000
        training, again = 0.65 * (saved - first), 0.65 * (last - saved)
        seconds = {"step": training, "redone": again, "init": 71.0, "compile": 143.0, "eval": 0.03 * training}
        seconds |= {"data": 0.05 * training, "save": 0.008 * training, "load": 19.0 if first else 0.0, "other": 12.0}
        seconds |= {"waiting_for_pods": 180.0 if number == 2 else 6.0, "hang": 1800.0 if code == 4 else 0.0}
        end = now + sum(seconds.values())
        events.append({"time": _iso(now), "event": "resume" if first else "start", "step": first, "world_size": ranks})
        goodput.append(
            {"job": "uid", "attempt": number, "start": now, "end": end, "seconds": seconds, "cause": cause or kind}
        )
        record: dict[str, Any] = {"time": end, "job": "uid", "attempt": number, "exit_code": code, "kind": kind}
        record |= {"cause": cause, "seconds": end - now, "checkpoint_before": first or None, "checkpoint_after": saved}
        attempts.append(record | {"last_step": last, "steps_lost": last - saved})
        now, first = end + 40, saved
    attempts[-1] |= {"verdict": 0, "why": ""}
    events.append({"time": _iso(now), "event": "complete", "step": steps})
    write_lines(run / "attempts.jsonl", attempts)
    write_lines(run / "goodput.jsonl", goodput)
    write_lines(run / "events.jsonl", events)


def _iso(seconds: float) -> str:
    import datetime

    return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _ranks(ranks: int, chance: random.Random) -> list[dict[str, Any]]:
    found = []
    for rank in range(ranks):
        slow = {40: 0.52, 41: 0.58, 203: 0.66}.get(rank)
        score = slow or chance.uniform(0.93, 1.02)
        row: dict[str, Any] = {"rank": rank, "host": f"voyager-{rank // 8:02d}", "score": score}
        row |= {"step_seconds": 0.65 / score, "data_seconds": 0.03, "images_per_second": 3.1 * score}
        found.append(row | {"memory_bytes": int(21.3 * 2**30)})
    return found


def _write_evaluation(run: Path, steps: int, classes: int, chance: random.Random) -> None:
    names = [f"{ANIMALS[one % 10]} {one // 10}" if one >= 10 else ANIMALS[one] for one in range(classes)]
    rows = []
    for one, name in enumerate(names):
        top1 = min(50, round(50 * chance.betavariate(9, 1.6)))
        rows.append({"class": one, "name": name, "images": 50, "top1": top1, "top5": min(50, top1 + 6)})
    pairs = [
        {"true": one, "predicted": (one * 7 + 3) % classes, "count": max(1, 23 - one // 3)}
        for one in range(min(60, classes))
    ]
    content = {"step": steps, "images": 50 * classes, "classes": rows, "pairs": pairs}
    (run / "evaluation" / "classes.json").write_text(json.dumps(content))
    samples = []
    for number in range(24):
        true, wrong = number % classes, number < 9
        guess = (true + 3) % classes if wrong else true
        name = f"sample_{number:03d}.jpg"
        (run / "evaluation" / name).write_bytes(_jpeg(number, 96))
        attention = f"attention_{number:03d}.jpg" if number < 6 else None
        if attention:
            (run / "evaluation" / attention).write_bytes(_jpeg(number, 224))
        first = round(chance.uniform(0.4, 0.98), 3)
        guesses = [[guess, first], [(true + 5) % classes, round((1 - first) / 2, 3)]]
        samples.append({"file": name, "true": true, "guesses": guesses, "attention": attention})
    (run / "evaluation" / "samples.json").write_text(json.dumps({"step": steps, "samples": samples}))


def _jpeg(number: int, side: int) -> bytes:
    """Return a picture of bands; one pixel where Pillow is absent."""
    try:
        from PIL import Image
    except ImportError:
        return TINY_JPEG
    image = Image.new("RGB", (side, side))
    pixels = [
        (128 + int(100 * math.sin((x + number * 9) / 13)), 128 + int(90 * math.cos(y / (7 + number))), 40 + number * 8)
        for y in range(side)
        for x in range(side)
    ]
    image.putdata(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def _write_checkpoints(run: Path, steps: int) -> None:
    for step in (steps - 1000, steps):
        folder = run / "checkpoints" / f"step_{step:08d}"
        folder.mkdir(parents=True)
        files = {"model.pt": {"bytes": 347_000_000, "sha256": "0" * 64}, "optimizer.pt": {"bytes": 347_000_000}}
        (folder / "MANIFEST.json").write_text(json.dumps({"step": step, "files": files}))
        (folder / "state.json").write_text(json.dumps({"step": step, "top1_percent": 84.0}))
    (run / "last").write_text(f"step_{steps:08d}\n")
    (run / "best").write_text(f"step_{steps:08d}\n")
