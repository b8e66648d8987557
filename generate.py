#!/usr/bin/env python3
"""Turns a small values file into an MPIJob that trains a Vision Transformer.

python generate.py --nodes 2 | kubectl apply -f -
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import click

    from mpikit.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NO, EXIT_VALUES, Fault, KitError, ValuesError
    from mpikit.job import Job, smoke_settings
    from mpikit.payload import read_payload
    from mpikit.render import Rendered, render
    from mpikit.rules import load_job
    from mpikit.summary import all_values, changed_values, headline, notes
    from mpikit.values import Values, load_values
except ModuleNotFoundError as missing:
    needed = f"{sys.executable} -m pip install click jinja2 pydantic pyyaml"
    sys.exit(f"generate.py: Python has no {missing.name}\n  fix: {needed}")

ROOT = Path(__file__).resolve().parent


@dataclass
class Options:
    """What the options shared by all verbs say, before or after the verb."""

    files: list[str] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    root: Path = ROOT / "values"
    user_file: bool = True
    smoke: bool = False
    debug: bool = False


def _shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that all verbs share."""
    for option in reversed(_SHARED):
        function = option(function)
    return function


def _keep(store: Callable[[Options, Any], object]) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            store(context.ensure_object(Options), value)

    return callback


def _option(*names: str, store: Callable[[Options, Any], object], **more: Any) -> Callable[..., Any]:
    return click.option(*names, expose_value=False, callback=_keep(store), **more)


def _setting(name: str, key: str) -> Callable[[Options, Any], object]:
    return lambda options, value: options.settings.append((name, f"{key}={value}"))


_SHARED = [
    _option(
        "-f",
        "--values",
        multiple=True,
        metavar="FILE",
        help="Values file, laid over values/default.yaml; repeatable, the later one wins. - is standard input.",
        store=lambda options, value: options.files.extend(value),
    ),
    _option(
        "--set",
        multiple=True,
        metavar="KEY=VALUE",
        help="One value, such as train.num_steps=100; wins over all files. null removes a value.",
        store=lambda options, value: options.settings.extend(("--set", text) for text in value),
    ),
    _option("--nodes", metavar="N", help="Worker nodes.", store=_setting("--nodes", "nodes")),
    _option("--cards", metavar="N", help="Accelerators of a node.", store=_setting("--cards", "cards")),
    _option("-n", "--namespace", metavar="NAME", help="Namespace.", store=_setting("--namespace", "namespace")),
    _option(
        "--smoke",
        is_flag=True,
        default=None,
        help="The same job on 1 node for 20 steps, under a name of its own.",
        store=lambda options, value: setattr(options, "smoke", value),
    ),
    _option(
        "--values-root",
        metavar="DIR",
        help="Folder of default.yaml and user.yaml.  [default: values/]",
        store=lambda options, value: setattr(options, "root", Path(value)),
    ),
    _option(
        "--no-user-file",
        is_flag=True,
        default=None,
        help="Leave values/user.yaml out.",
        store=lambda options, value: setattr(options, "user_file", not value),
    ),
    _option(
        "--debug",
        is_flag=True,
        default=None,
        help="Show the traceback of an error.",
        store=lambda options, value: setattr(options, "debug", value),
    ),
]


def _load(options: Options) -> tuple[Values, Job, list[Fault]]:
    """The values of all layers and the job that they make."""
    job, warnings = load_job(values := _values(options, options.settings))
    if options.smoke:
        settings = [("--smoke", f"{key}={value}") for key, value in smoke_settings(job).items()]
        job, warnings = load_job(values := _values(options, [*options.settings, *settings]))
    return values, job, warnings


def _values(options: Options, settings: Sequence[tuple[str, str]]) -> Values:
    return load_values(options.root, options.files, settings, _login(), options.user_file)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no environment variable and no passwd entry
        return ""


def _rendered(job: Job) -> Rendered:
    return render(job, read_payload(ROOT / "vit"))


def _talk(*lines: object) -> None:
    """Lines for the person; stdout is for data."""
    for line in lines:
        click.echo(str(line), err=True)


def _introduce(values: Values, job: Job, warnings: Sequence[Fault]) -> None:
    _talk(headline(job), *changed_values(values), *notes(job), *warnings)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_shared
@click.option("--out", metavar="DIR", help="With no verb: as of render.")
@click.pass_context
def cli(context: click.Context, out: str | None) -> None:
    """Turn a small values file into an MPIJob that trains a Vision Transformer.

    With no verb: render.

    \b
        python generate.py --nodes 2 | kubectl apply -f -
    """
    if context.invoked_subcommand is None:
        context.invoke(render_verb, out=out)


@cli.command("render")
@_shared
@click.option("--out", metavar="DIR", help="Write job.yaml and the scripts there (and vit/ for delivery: mydir).")
@click.pass_obj
def render_verb(options: Options, out: str | None) -> None:
    """Print the manifests, or write them and the scripts to a folder."""
    values, job, warnings = _load(options)
    rendered = _rendered(job)
    _introduce(values, job, warnings)
    if out is None:
        click.echo(rendered.manifest, nl=False)
        _talk(
            f"A finished job of this name is not run again by kubectl apply: delete it, or --set name={job.job_name}-2"
        )
        return
    from mpikit.files import next_step, write_out

    _talk(*write_out(Path(out), job, rendered), next_step(Path(out), job))


@cli.command()
@click.option("--site", default="voyager", show_default=True, help="Values file in values/ to start from.")
@click.option("--user", default=None, help="Whose jobs these are.  [default: login name]")
@_shared
@click.pass_obj
def init(options: Options, site: str, user: str | None) -> None:
    """Write values/user.yaml from a site's values and a user name."""
    from mpikit.files import write_user_values

    click.echo(write_user_values(options.root, site, user or _login()))


@cli.command()
@_shared
@click.option("--manifest", metavar="FILE", help="Check this manifest instead of values. - is standard input.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Name every value and where it came from.")
@click.option("--strict", is_flag=True, help="Take warnings for faults.")
@click.pass_obj
def check(options: Options, manifest: str | None, output: str, verbose: bool, strict: bool) -> None:
    """Find every fault of the values, or of a manifest, offline."""
    from mpikit.files import read_manifest
    from mpikit.manifest import check_manifest

    bad = EXIT_VALUES if manifest is None else EXIT_NO
    if manifest is None:
        found, lines = _check_values(options)
    else:
        found, lines = check_manifest(read_manifest(manifest), manifest), [f"{manifest}: no fault found"]
    _print_verdicts(found, lines if verbose or not found else lines[:1], output, verbose)
    if any(strict or fault.severity == "fault" for fault in found):
        raise SystemExit(bad)


def _check_values(options: Options) -> tuple[list[Fault], list[str]]:
    """What is wrong with the values, and what there is to say if nothing is."""
    from mpikit.manifest import check_manifest

    try:
        values, job, warnings = _load(options)
    except ValuesError as error:
        return list(error.faults), []
    lines = [headline(job), *(f"  {key}: {value}  ({where})" for key, value, where in all_values(values))]
    return [*warnings, *check_manifest(_rendered(job).manifest, "the rendered manifest")], lines


def _print_verdicts(found: Sequence[Fault], lines: Sequence[str], output: str, verbose: bool) -> None:
    if output == "json":
        click.echo(json.dumps([fault.as_dict() for fault in found], indent=2, ensure_ascii=False))
        return
    for line in [*(lines if verbose else lines[:1]), *(str(fault) for fault in found)]:
        click.echo(line)
    if not found:
        click.echo("no fault found")


@cli.command()
@_shared
def schema() -> None:
    """Print the JSON Schema of a values file, for editors."""
    from mpikit.schema import values_schema

    click.echo(json.dumps(values_schema(), indent=2))


@cli.command()
@_shared
@click.pass_obj
def run(options: Options) -> None:
    """Run the same scripts on this machine under real mpirun: no cluster, no root, no ssh."""
    from mpikit.local import run_job

    values, job, warnings = _load(options)
    _introduce(values, job, warnings)
    run_job(job, _rendered(job), Path.cwd())


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
            error, f"{error.format_message()}\n  fix: python generate.py --help shows the options", EXIT_VALUES, options
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


def _report(error: Exception, text: str, code: int, options: Options) -> int:
    if options.debug:
        import traceback

        traceback.print_exception(error)
    _talk(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
