# SPDX-License-Identifier: Apache-2.0
"""python -m vit.predict --pretrained_dir RUN [IMAGE ...]: what a model sees in images, or in the validation images.

Flags are those of vit.evaluate, and those below. One process; for people, and never in an MPIJob.
"""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt, raise_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vit.config import Config, build_parser
from vit.errors import ConfigError, DataError
from vit.evaluate import FLAGS
from vit.run.saved_flags import saved_flags
from vit.runtime.console import Reporter
from vit.runtime.launcher import launch
from vit.runtime.process import run_process
from vit.runtime.ranks import Ranks
from vit.runtime.signals import StopRequest

FORMATS = ("text", "json", "sheet")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request(Config):
    """Flags of vit.evaluate, the images, and what to make of them."""

    images: tuple[Path, ...] = ()
    """Files and folders; none stands for the validation images of the data set."""
    output: str | None = None
    attention: bool = False
    out: Path = Path("predictions")
    limit: int | None = None

    @property
    def form(self) -> str:
        """`output`, or text for files and JSON lines for a data set."""
        return self.output or ("text" if self.images else "json")


def parse(argv: Sequence[str]) -> Request:
    """Flags of the command line. Raises ConfigError."""
    parser = build_parser("vit.predict", FLAGS)
    parser.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="files or folders; without any, the validation images"
    )
    form = "text, JSON lines, or a contact sheet as a picture (default text; without IMAGE, json)"
    parser.add_argument("-o", "--output", choices=FORMATS, help=form)
    parser.add_argument("--attention", action="store_true", help="also draw what the model looks at, one picture each")
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="folder of the pictures")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    flags = parser.parse_args(argv)
    request = Request(**{**vars(flags), "images": tuple(flags.images)})
    if request.limit is not None and request.limit < 1:
        raise ConfigError("--limit", f"is {request.limit}", "give 1 or more")
    return request


def main(argv: Sequence[str]) -> int:
    """Predict; returns the trainer's exit codes."""
    return launch([*saved_flags(argv), *argv], parse, run, program="vit.predict")


def run(config: Config, ranks: Ranks, reporter: Reporter) -> None:
    """Print or draw a prediction for each image that can be decoded. Raises TrainError."""
    from vit.predict.output import Output, find_files
    from vit.predict.predictor import open_predictor

    assert isinstance(config, Request)
    request = config
    StopRequest()  # there is no state to save: a stop ends the process at once
    raise_on_interrupt()
    files = find_files(request.images)
    predictor = open_predictor(request, files, ranks)
    output = Output(request.form, request.out, predictor.shown, reporter.metrics, attention=request.attention)
    for prediction in itertools.islice(predictor.predictions(with_maps=request.attention), request.limit):
        output.add(prediction)
    output.finish()
    if files and predictor.num_damaged:
        what = f"{predictor.num_damaged} of {len(files)} images could not be decoded"
        raise DataError("images", what, "see the warnings above, and replace or leave out these files")


if __name__ == "__main__":
    run_process(main)
