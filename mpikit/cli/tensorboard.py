# SPDX-License-Identifier: Apache-2.0
"""The verb tensorboard: the metrics of a run in TensorBoard, on this machine or as a Job on the cluster."""

from __future__ import annotations

import click

from mpikit.cli.context import CommandContext
from mpikit.cli.help import Verb
from mpikit.cli.options import render_options
from mpikit.cli.prepare import print_job
from mpikit.errors import one_fault
from mpikit.resources import ROOT


@click.command(cls=Verb)
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="Port on this machine.  [default: 6006]")
@click.option("--job", "as_job", is_flag=True, help="Print a Job and a Service for kubectl that run it on the cluster.")
@render_options
@click.pass_obj
def tensorboard(context: CommandContext, run: str | None, port: int | None, as_job: bool) -> None:
    """Show the metrics of a run in TensorBoard.

    RUN is output/NAME, or a folder of runs to compare. This needs the package tensorboard on this machine, and no
    PyTorch. Nothing is written into the folder, and only this machine can connect.

    With --job, RUN is the name of a run in `output` of the values, by default train.name. The pod uses the image of the
    values, which must contain the package, and mounts `output` read-only. `delete` of the training job deletes it too.

    \b
        python generate.py tensorboard output/flowers
        python generate.py tensorboard --job | kubectl apply -f -
    """
    if as_job:
        _print(context, run, port)
        return
    if run is None:
        raise one_fault("", "is missing", "give the folder of a run, such as output/NAME, or use --job", "RUN")
    from mpikit.local import run_module

    words = [f"--port={port}"] if port else []
    run_module("vit.tensorboard", [*words, "--", run], ROOT, needs="tensorboard")


def _print(context: CommandContext, run: str | None, port: int | None) -> None:
    from mpikit.config.prepare import TENSORBOARD_PORT, tensorboard_task

    if port:
        fix = f"leave --port out, and use {port}:{TENSORBOARD_PORT} with kubectl port-forward"
        raise one_fault("", "--job and --port cannot be combined", fix, "--port")
    job = context.load().job
    print_job(context, tensorboard_task(job, run or job.train.name))
