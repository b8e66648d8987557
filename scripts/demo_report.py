# SPDX-License-Identifier: Apache-2.0
"""The end of scripts/demo: curves, a contact sheet of held-out digits, and what to do next.

python scripts/demo_report.py RUN FOLDER SECONDS: pictures go to FOLDER and are made again if the run has changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mpikit.report.curves import read_curves, svg, text_plot  # noqa: E402  # after the path
from mpikit.text.units import duration  # noqa: E402

NUM_SHOWN, NUM_COLUMNS, MOST_WRONG = 20, 5, 5
CELL, SCAN, MARGIN, HEAD = (124, 132), 88, 18, 44  # pixels of the contact sheet
GOOD, BAD, INK = "#15803d", "#b91c1c", "#111111"


def main(run: Path, folder: Path, seconds: float) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = [row for row in rows if row["top1_percent"] is not None][-1]
    curves = read_curves(run / "metrics.jsonl")
    sheet, curve = folder / "demo-digits.png", folder / "demo-curve.svg"
    accuracy = f"{best['top1_percent']:.1f} % top-1 of {best['eval_images']} held-out digits"
    trained = not sheet.exists() or sheet.stat().st_mtime < (run / "last").stat().st_mtime
    if trained:
        sys.stderr.write("\n== Pictures: the trained model looks at the held-out digits, about 10 seconds\n")
        curve.write_text(svg(curves, f"Handwritten digits: {accuracy}"))
        draw_sheet(predictions(run), sheet)
    sys.stdout.write(
        f"\n{text_plot(curves)}\n\n{summary(run, rows, accuracy, seconds if trained else None, (sheet, curve))}"
    )


def predictions(run: Path) -> list[dict[str, Any]]:
    """What the last checkpoint makes of each held-out digit."""
    last = run / "checkpoints" / (run / "last").read_text().strip()
    command = [sys.executable, "-m", "vit.predict", "--pretrained_dir", str(last), "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the predictions failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NUM_SHOWN digits: at most MOST_WRONG that the model gets wrong, the others evenly spread."""
    wrong = [row for row in rows if row["class"] != row["prediction"]][:MOST_WRONG]
    right = [row for row in rows if row["class"] == row["prediction"]]
    wanted = min(NUM_SHOWN - len(wrong), len(right))
    shown = wrong + [right[number * len(right) // wanted] for number in range(wanted)]
    return sorted(shown, key=lambda row: row["class"])


def draw_sheet(rows: list[dict[str, Any]], path: Path) -> None:
    """The chosen digits with prediction and truth, as PNG."""
    from PIL import Image, ImageDraw, ImageFont

    shown, num_wrong = chosen(rows), sum(row["class"] != row["prediction"] for row in rows)
    num_rows = -(-len(shown) // NUM_COLUMNS)
    sheet = Image.new("RGB", (2 * MARGIN + NUM_COLUMNS * CELL[0], HEAD + MARGIN + num_rows * CELL[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    title = f"{len(rows) - num_wrong} of {len(rows)} held-out digits are right; {num_wrong} wrong, marked in red"
    draw.text((MARGIN, 14), title, INK, ImageFont.load_default(16))
    for number, row in enumerate(shown):
        left = MARGIN + number % NUM_COLUMNS * CELL[0] + (CELL[0] - SCAN) // 2
        top = HEAD + number // NUM_COLUMNS * CELL[1] + 4
        right = row["class"] == row["prediction"]
        colour = GOOD if right else BAD
        with Image.open(row["image"]) as scan:
            sheet.paste(scan.convert("RGB").resize((SCAN, SCAN)), (left, top))
        draw.rectangle((left - 3, top - 3, left + SCAN + 2, top + SCAN + 2), outline=colour, width=2 if right else 4)
        text = (
            f"{row['prediction']}  ({100 * row['probability']:.0f} %)"
            if right
            else f"{row['prediction']}, but is {row['class']}"
        )
        draw.text((left + SCAN / 2, top + SCAN + 8), text, colour, font, anchor="ma")
    sheet.quantize(128).save(path, optimize=True)


def summary(
    run: Path, rows: list[dict[str, Any]], accuracy: str, seconds: float | None, pictures: tuple[Path, Path]
) -> str:
    """Numbers, places, next steps; without `seconds`, nothing was trained now."""
    time = "" if seconds is None else f"{duration(seconds)} in all; "
    speeds = sorted(row["images_per_second"] for row in rows if row["images_per_second"])
    return f"""\
accuracy     {accuracy} at step {rows[-1]["step"]:,}
time         {time}{speeds[len(speeds) // 2]:.0f} images/s in training
pictures     {pictures[0]} (20 digits with the model's answers), {pictures[1]}
run          {run}: metrics.jsonl, checkpoints/; `best` and `last` name the checkpoints
manifest     build/demo.yaml, which kubectl apply would get

next
  scripts/demo --fresh                    train again; the old run is kept
  python generate.py init                 write values/user.yaml for your cluster
  python generate.py doctor               check the cluster before you submit
"""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
