# SPDX-License-Identifier: Apache-2.0
"""The contract with the trainer: exit codes, progress lines, models, published weights. Nothing here imports vit."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from mpikit.text.units import seconds_of

# The side of a patch in pixels, and millions of parameters with a head of 1,000 classes, by model. A test compares both
# with the trainer's own.
MEGA_PARAMETERS = {
    "ViT-Ti_16": 5.8,
    "ViT-S_16": 22.2,
    "ViT-B_16": 86.9,
    "ViT-B_32": 88.3,
    "ViT-L_16": 304.7,
    "ViT-L_32": 306.6,
    "ViT-H_14": 632.7,
    "R50-ViT-B_16": 99.0,
    "tiny": 0.2,
}


PATCHES = {
    "ViT-Ti_16": 16,
    "ViT-S_16": 16,
    "ViT-B_16": 16,
    "ViT-B_32": 32,
    "ViT-L_16": 16,
    "ViT-L_32": 32,
    "ViT-H_14": 14,
    "R50-ViT-B_16": 16,
    "tiny": 8,
}


PUBLISHED_NAMES = {"R50-ViT-B_16": "R50+ViT-B_16"}
"""Files in Google's bucket that are not named as their model."""


# What the exit code of a run means: vit/errors.py, and the shell's 128 + signal. A test compares both sides.
EXIT_CODES: dict[int, str] = {
    2: "the trainer refused its configuration; its line above says what to change",
    3: "another run uses this output folder",
    4: "a rank did not answer in time",
    5: "loss or gradient is not finite",
    6: "the run is incomplete: a rank or a node went away",
    7: "the output folder cannot be written or read",
    8: "the images are missing, too few or damaged",
    9: "a server cannot be reached, or rejects the request",
    10: "no restart is left, or the last three brought no new checkpoint",
    11: "a device gave wrong results before step 1; the trainer's line above names its rank and node",
    70: "a bug in the trainer",
    137: "a rank was killed by signal 9, most often because memory ran out",
    143: "stopped as asked; the state is saved, and a job with the same train.name continues from there",
}

_PROGRESS = re.compile(r"step=(\d+)/(\d+)((?: [a-z0-9_]+=\S+)*)")
_NAMES = {"top1": "top1_percent", "left": "seconds_left"}


_GOODPUT = re.compile(r"run_vit\.sh: (goodput (\d{1,3}\.\d) % of .*)")


def goodput_values(line: str) -> tuple[float, str] | None:
    """Return the goodput in per cent and the whole sentence, if a line of the launcher's log has them."""
    found = _GOODPUT.fullmatch(line.strip())
    return (float(found[2]), found[1]) if found else None


def progress_values(line: str) -> dict[str, Any] | None:
    """Return the values of a progress line under the names of metrics.jsonl, with num_steps and seconds_left.

    Read are logfmt (vit/run/metrics.py) and the JSON lines of older trainers. None for any other line.
    """
    line = line.strip()
    if line.startswith("{"):
        return _json_values(line)
    found = _PROGRESS.fullmatch(line)
    if not found:
        return None
    values: dict[str, Any] = {"step": int(found[1]), "num_steps": int(found[2])}
    for word in found[3].split():
        name, _, text = word.partition("=")
        number = seconds_of(text) if name == "left" else _number(text.removesuffix("%"))
        if number is not None:
            values[_NAMES.get(name, name)] = number
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _json_values(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_metric = isinstance(found, dict) and type(found.get("step")) is int and "images_per_second" in found
    return found if is_metric else None


CHECKPOINT_FILES = {"model.pt", "optimizer.pt", "state.json"}


def whole_last_checkpoint(run: Path) -> dict[str, Any] | None:
    """Return the state.json of a run's last checkpoint, read without torch; None unless all of it is as it was saved.

    It is a shortcut: the trainer itself says what is wrong with the others (vit/run/checkpoint.py).
    """
    try:
        folder = run / "checkpoints" / (run / "last").read_text().strip()
        if folder.name != max(path.name for path in (run / "checkpoints").glob("step_*")):
            return None
        manifest = json.loads((folder / "MANIFEST.json").read_bytes())
        files: dict[str, Any] = manifest["files"]
        whole = files.keys() - {"ema.pt"} == CHECKPOINT_FILES and all(
            (folder / name).stat().st_size == entry["bytes"] and _sha256(folder / name) == entry["sha256"]
            for name, entry in files.items()
        )
        state = json.loads((folder / "state.json").read_bytes())
        return (
            state
            if whole and folder.name == f"step_{state['step']:08d}" and manifest["step"] == state["step"]
            else None
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


DATASETS = ("imagenet1K", "cifar10", "cifar100", "fashion-mnist", "imagefolder")
"""What vit.prepare makes of archives, or checks."""
