# SPDX-License-Identifier: Apache-2.0
"""The verbs after a job: predict and export. Both run the trainer's own programs on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from mpikit.cli.help import Verb
from mpikit.cli.options import plain_options
from mpikit.resources import ROOT

FORMATS = ("timm", "hf", "onnx", "npz")
_run_folder = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))


@click.command(cls=Verb)
@_run_folder
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "sheet"]),
    default="text",
    show_default=True,
    help="Format: text, one JSON object a line, or a contact sheet as a picture.",
)
@click.option("--attention", is_flag=True, help="Also draw what the model looks at, one picture for each image.")
@click.option("--out", metavar="DIR", default="predictions", show_default=True, help="Folder for the pictures.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Stop after N images.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "hpu"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)
@plain_options
def predict(
    run: Path, images: tuple[Path, ...], output: str, attention: bool, out: str, limit: int | None, device: str
) -> None:
    """Show what a trained model sees in images.

    RUN is output/NAME, of which the best checkpoint is used, or the folder of a checkpoint. Each IMAGE is a file or a
    folder; without any, the images are the run's validation images. This needs PyTorch on this machine.

    \b
        python generate.py predict output/flowers rose.jpg --attention
    """
    from mpikit.local import run_module

    words = [f"--pretrained_dir={run}", f"--output={output}", f"--out={out}", f"--device={device}"]
    words += ["--attention"] if attention else []
    words += [f"--limit={limit}"] if limit else []
    run_module("vit.predict", [*words, "--", *map(str, images)], ROOT)


@click.command(cls=Verb)
@_run_folder
@click.option(
    "--to",
    type=click.Choice(FORMATS),
    metavar="|".join(FORMATS),
    required=True,
    help="Format: timm, Hugging Face's transformers, ONNX, or Google's .npz.",
)
@click.option("--out", metavar="DIR", help="Folder to write.  [default: NAME-FORMAT]")
@click.option("--force", is_flag=True, help="Replace DIR if an earlier export wrote it.")
@click.option("--license", "license_name", metavar="NAME", help="License of the weights, such as apache-2.0.")
@plain_options
def export(run: Path, to: str, out: str | None, force: bool, license_name: str | None) -> None:
    """Write a trained model as a folder that another library loads.

    RUN is output/NAME, of which the best checkpoint is used, or the folder of a checkpoint. The folder also contains a
    model card. A format that cannot compute exactly the same function is refused. This needs PyTorch on this machine.

    \b
        python generate.py export output/flowers --to timm
    """
    from mpikit.local import run_module

    words = [f"--to={to}"]
    words += [f"--out={out}"] if out else []
    words += ["--force"] if force else []
    words += [f"--license={license_name}"] if license_name else []
    run_module("vit.export", [*words, "--", str(run)], ROOT)


TRAINED = (predict, export)
