#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a small values file into an MPIJob that trains a Vision Transformer.

python generate.py --nodes 2 | kubectl apply -f -
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpikit.manifest import Target

try:
    import click

    from mpikit.chores import CHORES
    from mpikit.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NO, EXIT_VALUES, Fault, KitError, ValuesError
    from mpikit.options import (
        OUT_OPTION,
        Options,
        introduce,
        load,
        login,
        rendered_job,
        shared_options,
        target_options,
    )
    from mpikit.summary import all_values, headline, once_more
    from mpikit.terminal import show, show_data, talk
    from mpikit.verbs import VERBS
except KeyboardInterrupt:
    sys.exit(130)  # mpikit.errors' EXIT_INTERRUPTED, which may not be there yet
except ModuleNotFoundError as missing:
    needed = f"{sys.executable} -m pip install click jinja2 pydantic pyyaml"
    sys.exit(f"generate.py: Python has no {missing.name}\n  fix: {needed}")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@shared_options
@OUT_OPTION
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn a small values file into an MPIJob that trains a Vision Transformer.

    With no verb: render.

    \b
        python generate.py --nodes 2 | kubectl apply -f -
    """
    if context.invoked_subcommand is None:
        context.invoke(render_verb)


@cli.command("render")
@shared_options
@OUT_OPTION
@click.pass_obj
def render_verb(options: Options) -> None:
    """Print the manifests, or write them and the scripts to a folder."""
    values, job, warnings = load(options)
    rendered = rendered_job(job)
    introduce(values, job, warnings)
    if options.out is None:
        show_data(rendered.manifest)
        talk(once_more(job))
        return
    from mpikit.files import next_step, write_out

    talk(*write_out(Path(options.out), job, rendered), next_step(Path(options.out), job))


@cli.command()
@click.option("--site", default="voyager", show_default=True, help="Values file in values/ to start from.")
@click.option("--user", default=None, help="Whose jobs these are.  [default: login name]")
@shared_options
@click.pass_obj
def init(options: Options, site: str, user: str | None) -> None:
    """Write values/user.yaml from a site's values and a user name."""
    from mpikit.files import write_user_values

    show(str(write_user_values(options.root, site, user or login())))


@cli.command()
@shared_options
@click.option("--manifest", metavar="FILE", help="Check this manifest instead of values. - is standard input.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "-v", "--verbose", is_flag=True, help="Name every value and where it came from, and what the cluster must have."
)
@click.option("--strict", is_flag=True, help="Take warnings for faults.")
@target_options
@click.pass_obj
def check(options: Options, /, manifest: str | None, output: str, verbose: bool, strict: bool, **target: Any) -> None:
    """Find every fault of the values, or of a manifest, offline."""
    from mpikit.manifest import Target, check_manifest, needs
    from mpikit.sources import read_text

    if manifest is None:
        text, found, lines, bad = *_check_values(options, Target(**target)), EXIT_VALUES
    else:
        text, lines, bad = read_text(manifest, manifest), [], EXIT_NO
        found = check_manifest(text, manifest, Target(**target))
    if output == "json":
        show(json.dumps([fault.as_dict() for fault in found], indent=2))
    else:
        verdicts = [str(fault) for fault in found] or ["no fault found"]
        needed = [f"  the cluster must have {name}" for name in needs(text)]
        show("\n".join([*([*lines, *needed] if verbose else lines[:1]), *verdicts]))
    if any(strict or fault.severity == "fault" for fault in found):
        raise SystemExit(bad)


def _check_values(options: Options, target: Target) -> tuple[str, list[Fault], list[str]]:
    """The manifest that the values make if any, what is wrong with them, and the values one a line."""
    from mpikit.blame import security_faults
    from mpikit.manifest import check_manifest

    try:
        values, job, warnings = load(options)
    except ValuesError as error:
        return "", list(error.faults), []
    lines = [headline(job), *(f"  {key}: {value}  ({where})" for key, value, where in all_values(values))]
    manifest = rendered_job(job).manifest
    found = check_manifest(manifest, "the rendered manifest", target.without_pod_security())
    violations = security_faults(manifest, target.pod_security, values, target.version)
    return manifest, [*warnings, *found, *violations], lines


@cli.command()
@shared_options
def schema() -> None:
    """Print the JSON Schema of a values file, for editors."""
    from mpikit.schema import values_schema

    show(json.dumps(values_schema(), indent=2))


@cli.command()
@shared_options
@click.pass_obj
def run(options: Options) -> None:
    """Run the same scripts on this machine under real mpirun: no cluster, no root, no ssh."""
    from mpikit.local import run_job

    values, job, warnings = load(options)
    introduce(values, job, [fault for fault in warnings if fault.key != "output"])  # it is a folder of this machine
    run_job(job, rendered_job(job), Path.cwd())


for verb in (*CHORES, *VERBS):
    cli.add_command(verb)


def main() -> int:
    """The exit code of a command line; errors.py has the table."""
    options = Options()
    try:
        cli.main(obj=options, standalone_mode=False, prog_name="generate.py")
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _report(
            error, f"{error.format_message()}\n  fix: {_help_of(error)} --help shows the options", EXIT_VALUES, options
        )
    except KitError as error:
        return _report(error, str(error), error.exit_code, options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error}\n  fix: report it, with what --debug prints"
        return _report(error, text, EXIT_INTERNAL, options)
    return 0


def _help_of(error: click.ClickException) -> str:
    """The command whose help tells what was wrong."""
    context = getattr(error, "ctx", None)
    return f"python {context.command_path if context else 'generate.py'}"


def _report(error: Exception, text: str, code: int, options: Options) -> int:
    if options.debug:
        import traceback

        talk("".join(traceback.format_exception(error)))
    talk(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
