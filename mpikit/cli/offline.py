# SPDX-License-Identifier: Apache-2.0
"""The commands that need no cluster: render, init, check, schema, run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpikit.cli.context import CommandContext, login
from mpikit.cli.help import Verb
from mpikit.cli.options import OUT_OPTION, init_options, plain_options, render_options, target_options
from mpikit.cli.view import all_values, headline, notes, once_more, placement, show_manifest
from mpikit.diagnostics import Diagnostic
from mpikit.errors import EXIT_NO, EXIT_VALUES, ValuesError
from mpikit.text.terminal import show, talk

if TYPE_CHECKING:
    from mpikit.text.manifest import Manifest
    from mpikit.validation.manifest import Target


@click.command("render", cls=Verb)
@OUT_OPTION
@render_options
@click.pass_obj
def render_verb(context: CommandContext) -> None:
    """Print the manifests, or write them and the scripts to a folder.

    \b
        python generate.py render --nodes 2 --out build/job
    """
    job, rendered = context.load().job, context.rendered()
    context.introduce()
    if context.out is None:
        show_manifest(rendered.manifest)
        talk(once_more(job))
        return
    from mpikit.render.output import next_step, write_out

    talk(*write_out(Path(context.out), job, rendered), next_step(Path(context.out), job))


@click.command(cls=Verb)
@click.option("--site", default=None, hidden=True, help="The former name of --profile.")
@click.option("--user", default=None, help="Your user name on the cluster.  [default: login name]")
@init_options
@click.pass_obj
def init(context: CommandContext, site: str | None, user: str | None) -> None:
    """Write values/user.yaml with your profile and your user name.

    \b
        python generate.py init --profile gaudi2 --user ada
    """
    from mpikit.config.profiles import DEFAULT_PROFILE
    from mpikit.render.output import write_user_values

    show(
        str(
            write_user_values(
                context.root, context.own_values, context.profile or site or DEFAULT_PROFILE, user or login()
            )
        )
    )


@click.command(cls=Verb)
@click.option(
    "--manifest",
    metavar="FILE",
    multiple=True,
    help="Check a manifest instead of values; repeat it for several files. - is stdin.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the result.",
)
@click.option("-v", "--verbose", is_flag=True, help="List every value with its source, and what the cluster must have.")
@click.option("--strict", is_flag=True, help="Exit with 2 on warnings too.")
@target_options
@render_options
@click.pass_obj
def check(
    context: CommandContext, /, manifest: tuple[str, ...], output: str, verbose: bool, strict: bool, **target: Any
) -> None:
    """Report every error in the values, or in a manifest, without a cluster.

    \b
        python generate.py check -v --nodes 2
    """
    from mpikit.text.input import read_text
    from mpikit.text.manifest import joined, read_manifest
    from mpikit.validation.manifest import Target, check_manifest, needs

    if not manifest:
        objects, found, lines, bad = *_check_values(context, Target(**target)), EXIT_VALUES
    else:
        objects, lines, bad = joined([read_manifest(read_text(name, name), name) for name in manifest]), [], EXIT_NO
        found = check_manifest(objects, Target(**target, examples=True))
    if output == "json":
        show(json.dumps([fault.as_dict() for fault in found], indent=2))
    else:
        verdicts = [str(fault) for fault in found] or ["no error found"]
        needed = [f"  the cluster must have {name}" for name in needs(objects)]
        show("\n".join([*([*lines, *needed] if verbose else lines[:1]), *verdicts]))
    if any(strict or fault.severity == "fault" for fault in found):
        raise SystemExit(bad)


def _check_values(context: CommandContext, target: Target) -> tuple[Manifest, list[Diagnostic], list[str]]:
    """Return the manifest that the values make if any, what is wrong with them, and the values one a line."""
    from mpikit.text.manifest import Manifest
    from mpikit.validation.manifest import check_manifest
    from mpikit.validation.provenance import security_faults

    try:
        loaded = context.load()
    except ValuesError as error:
        return Manifest(""), list(error.faults), []
    values = loaded.values
    talk(*values.notes)
    lines = [
        "\n".join(filter(None, [headline(loaded.job), placement(loaded.job)])),
        *all_values(values),
        *notes(loaded.job, values),
    ]
    manifest = context.manifest
    found = check_manifest(manifest, target.without_pod_security())
    violations = security_faults(manifest, target.pod_security, values, target.version)
    return manifest, [*loaded.warnings, *found, *violations], lines


@click.command(cls=Verb)
@plain_options
def schema() -> None:
    """Print the JSON Schema of a values file, for editors.

    \b
        python generate.py schema > values.schema.json
    """
    from mpikit.config.json_schema import values_schema

    show(json.dumps(values_schema(), indent=2))


@click.command(cls=Verb)
@render_options
@click.pass_obj
def run(context: CommandContext) -> None:
    """Run the job on this machine with mpirun, without a cluster.

    The scripts are those of the pods. The nodes are simulated, without root and without ssh.

    \b
        python generate.py run -f cpu.yaml --nodes 2 --set train.num_steps=10
    """
    from mpikit.config.job import FOLDERS
    from mpikit.local import run_job

    loaded = context.load()
    loaded.require_user(*FOLDERS)
    own = ("output", "user", "image")  # this machine has its own folder, user and packages
    context.introduce([fault for fault in loaded.warnings if fault.key not in own])
    run_job(loaded.job, context.rendered(), Path.cwd())


OFFLINE = (render_verb, init, check, schema, run)
