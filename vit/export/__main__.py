# SPDX-License-Identifier: Apache-2.0
"""python -m vit.export RUN --to timm|hf|onnx|npz: the weights of a run as a folder that another library loads.

The folder is complete or does not exist. Exit codes: vit/errors.py; 2 also for what a format cannot express exactly.
"""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit.errors import ConfigError
from vit.runtime.console import Talk, write
from vit.runtime.failures import import_needed
from vit.runtime.launcher import Parser, run_program
from vit.runtime.process import run_process

if TYPE_CHECKING:
    from vit.export.trained import Trained

NAMES = ("timm", "hf", "onnx", "npz")


def main(argv: Sequence[str]) -> int:
    """Export; returns the exit code."""
    return run_program("vit.export", argv, _export)


def _parser() -> Parser:
    parser = Parser(prog="python -m vit.export", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "run", metavar="RUN", help="output/NAME, of which the best checkpoint is taken, or a checkpoint"
    )
    parser.add_argument(
        "--to", choices=NAMES, required=True, help="timm, Hugging Face's transformers, ONNX, or Google's .npz"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder to write (default NAME-FORMAT here)")
    parser.add_argument("--force", action="store_true", help="replace a folder that an earlier export wrote")
    parser.add_argument("--license", metavar="NAME", help="license of the weights, for the model card: apache-2.0")
    return parser


def _export(argv: Sequence[str], talk: Talk) -> None:
    flags = _parser().parse_args(argv)
    import_needed()
    from vit.export.card import LICENSE
    from vit.export.folder import check_target, replaced
    from vit.export.formats import FORMATS
    from vit.export.trained import open_trained

    if flags.license is not None and not LICENSE.fullmatch(flags.license):
        fix = "give an identifier of the hub, such as apache-2.0 or cc-by-4.0"
        raise ConfigError("--license", f'"{flags.license}" is not a license identifier', fix)
    trained = open_trained(flags.run)
    target = flags.out or Path(f"{trained.name}-{flags.to}")
    check_target(target, force=flags.force)
    FORMATS[flags.to].check(trained)
    talk.say(f"weights: {trained.own.file}")
    with replaced(target) as folder:
        notes = _write(trained, flags.to, flags.license, folder)
    for note in notes:
        talk.say(f"warning: {note}")
    write(sys.stdout, f"{target}\n")


def _write(trained: Trained, to: str, license_name: str | None, folder: Path) -> list[str]:
    """Write all files of the export; returns what to warn of."""
    from vit.export.card import card
    from vit.export.folder import write_record
    from vit.export.formats import FORMATS

    notes = FORMATS[to].write(trained, folder)
    (folder / "README.md").write_text(card(trained, to, license_name), encoding="utf-8")
    write_record(folder, {"format": to, "run": trained.name, "step": trained.state["step"]})
    if trained.resized_otherwise:
        notes.append("images were resized without antialiasing (--resize reference), which no format can express")
    return notes


if __name__ == "__main__":
    run_process(main)
