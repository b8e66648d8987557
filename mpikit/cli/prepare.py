# SPDX-License-Identifier: Apache-2.0
"""The verbs before a job: weights and data. Each prints a command, runs it here, or prints a Job for the cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpikit.cli.context import CommandContext, Loaded
from mpikit.cli.help import Mistake, Verb
from mpikit.cli.options import render_options
from mpikit.cli.view import show_manifest
from mpikit.errors import one_fault
from mpikit.resources import ROOT
from mpikit.text.quoting import shown
from mpikit.text.terminal import COMMAND, show, talk
from mpikit.trainer import DATASETS

if TYPE_CHECKING:
    from mpikit.config.prepare import Task

_here = click.option("--here", is_flag=True, help="Do it on this machine instead of printing the command.")
_job = click.option(
    "--job", "as_job", is_flag=True, help="Print a batch/v1 Job for kubectl that does it on the cluster."
)


class DatasetName(click.Choice[str]):
    """The name of a dataset, as `data` or as train.dataset writes it: fashion-mnist or fashion_mnist."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as `data` writes it."""
        names = {name.lower(): name for name in DATASETS}
        word = str(value).lower().replace("_", "-")
        if word not in names:
            raise Mistake(f"{shown(str(value))} is not a known dataset", f"write one of {', '.join(DATASETS)}", ctx)
        return names[word]


def _to(key: str) -> Callable[..., Any]:
    text = f"Folder to write, instead of `{key}` of the values: a path, or '{{pvc: NAME, subPath: FOLDER}}'."
    return click.option("--to", "target", metavar="PATH", help=text)


@click.command(cls=Verb)
@click.argument("model", required=False)
@click.option("--variant", default="imagenet21k", show_default=True, help="Or augreg, imagenet21k+imagenet2012.")
@_to("pretrained")
@click.option("--mirror", metavar="URL", help="Server with the files of Google's bucket under the same paths.")
@_here
@_job
@render_options
@click.pass_obj
def weights(
    context: CommandContext,
    model: str | None,
    variant: str,
    target: str | None,
    mirror: str | None,
    here: bool,
    as_job: bool,
) -> None:
    """Download Google's pretrained weights of a model to where training looks for them.

    MODEL defaults to train.model_type of the values. Without --here or --job, the command prints what to run on a
    machine that has the folder.

    \b
        python generate.py weights ViT-B_16 --job | kubectl apply -f -
    """
    from mpikit.config.prepare import weights_task
    from mpikit.config.pretrained import VARIANTS, published_file

    if variant not in VARIANTS:
        raise one_fault("", f"{variant} is not a variant", f"one of {', '.join(VARIANTS)}", "--variant")
    _store_target(context, "pretrained", target)
    job = context.load().job
    model = model or job.train.model_type
    task = weights_task(job, model, variant, mirror)
    talk(f"{model}, {variant}: about {published_file(model, variant).mib} MiB")
    _do(context, task, here=here, as_job=as_job)


@click.command(cls=Verb)
@click.argument("dataset", metavar="DATASET", type=DatasetName(DATASETS))
@click.option(
    "--from",
    "archives",
    required=True,
    metavar="PATH",
    help="Folder with the archives, or of an imagefolder.",
)
@_to("dataset")
@click.option("--allow-subset", is_flag=True, help="Accept archives of a part of the dataset; its manifest says so.")
@_here
@_job
@render_options
@click.pass_obj
def data(
    context: CommandContext,
    dataset: str,
    archives: str,
    target: str | None,
    allow_subset: bool,
    here: bool,
    as_job: bool,
) -> None:
    """Turn the published archives of a dataset into the folder that training reads, and verify it.

    DATASET is imagenet1K, cifar10, cifar100, fashion-mnist or imagefolder. imagenet1K needs
    ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz. imagefolder checks a tree of
    train/<class>/ and val/<class>/ in place. Without --here or --job, the command prints what to run on a machine that
    has the folders.

    \b
        python generate.py data imagenet1K --from /voyager/ceph/users/me/archives --job | kubectl apply -f -
    """
    from mpikit.config.prepare import data_task, source_of

    if dataset == "imagefolder" and target:
        raise one_fault("", "has no use: an imagefolder is checked in place", "leave --to out", "--to")
    _store_target(context, "dataset", target)
    job = context.load().job
    if target is None and dataset != "imagefolder":
        _refuse_folder_of_another(context.load(), dataset)
    source = source_of(archives if archives.startswith("{") or as_job else str(Path(archives).absolute()), "--from")
    flags = ("--allow_subset",) if allow_subset else ()
    _do(context, data_task(job, dataset, source, flags), here=here, as_job=as_job)


def _refuse_folder_of_another(loaded: Loaded, dataset: str) -> None:
    """Raise ValuesError if `dataset` of the values is the folder of another dataset: its files would be mixed."""
    trained = loaded.job.train.dataset
    by_flag = loaded.values.where(("dataset",)).startswith("--")
    if trained.replace("_", "-") != dataset and not by_flag and loaded.job.dataset:
        message = f"is needed: `dataset` of the values is the folder of {trained}"
        raise one_fault("", message, f"--to FOLDER, an empty folder for {dataset}", "--to")


def _store_target(context: CommandContext, key: str, target: str | None) -> None:
    """Store --to as the setting of its key; a relative path is on this machine."""
    if target is not None:
        place = target if target.startswith("{") else str(Path(target).absolute())
        context.settings.append(("--to", f"{key}={place}"))


def _do(context: CommandContext, task: Task, *, here: bool, as_job: bool) -> None:
    """Run the task, or print it as a Job or as a command."""
    if here and as_job:
        raise one_fault("", "--here and --job cannot be combined", "use one of them", "--here")
    if here:
        from mpikit.local import run_task

        context.load().require_user(*(folder.name for folder in task.folders))
        run_task(task, ROOT)
        return
    if as_job:
        print_job(context, task)
        return
    if not task.here:
        whole = f"{COMMAND} {shlex.join([*sys.argv[1:], '--job'])} | kubectl apply -f -"
        raise one_fault("", "is needed: a folder is on a claim, which only a pod can mount", whole, "--job")
    show(task.command_line)
    talk(*(warning for warning in context.load().warnings if warning.key == "user"))
    talk("next: run this where the folder is, in the project's folder; --here does it now, --job prints a Job")


def print_job(context: CommandContext, task: Task) -> None:
    """Print the manifests of a task, and on stderr what to do next."""
    from mpikit.render.payload import read_payload
    from mpikit.render.renderer import render_task

    loaded = context.load()
    show_manifest(render_task(loaded.job, task, read_payload(ROOT / "vit")))
    talk(*loaded.warnings, task.after_it(loaded.job.namespace))


CHORES = (weights, data)
