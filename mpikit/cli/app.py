# SPDX-License-Identifier: Apache-2.0
"""The command line: `main`, and the group that all commands belong to."""

from __future__ import annotations

import gc
import sys

import click

from mpikit.cli.context import CommandContext
from mpikit.cli.help import Kit, Verb, mistake_of
from mpikit.cli.jobs import VERBS
from mpikit.cli.offline import OFFLINE, render_verb
from mpikit.cli.options import OUT_OPTION, VERSION_OPTION, Options, submit_options
from mpikit.cli.prepare import CHORES
from mpikit.cli.recovery import RECOVERY
from mpikit.cli.report import REPORTS
from mpikit.cli.tensorboard import tensorboard
from mpikit.cli.top import top
from mpikit.cli.trained import TRAINED
from mpikit.diagnostics import with_fix
from mpikit.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NO, EXIT_VALUES, KitError
from mpikit.text.terminal import COMMAND, command_line, discard, replace_closed_streams, show, talk


@click.group(cls=Kit, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@OUT_OPTION
@VERSION_OPTION
@submit_options
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn a small values file into a Kubernetes MPIJob that trains a Vision Transformer.

    Without a command, it prints the manifests, as render does.

    \b
        python generate.py --nodes 2 | kubectl apply -f -
    """
    if context.invoked_subcommand is None:
        context.invoke(render_verb)


@click.command("help", cls=Verb)
@click.argument("command", required=False)
@click.pass_context
def help_verb(context: click.Context, command: str | None) -> None:
    """Show the help of a command.

    \b
        python generate.py help submit
    """
    kit = context.find_root()
    if command is None:
        show(cli.get_help(kit))
        return
    name, verb, _ = cli.resolve_command(kit, [command])
    assert verb is not None, "an unknown command is a Mistake"
    show(verb.get_help(verb.context_class(verb, kit, name)))


for verb in (*OFFLINE, *CHORES, *VERBS, *RECOVERY, *REPORTS, *TRAINED, tensorboard, top, help_verb):
    cli.add_command(verb)


def main() -> int:
    """Return the exit code of a command line; errors.py has the table."""
    gc.set_threshold(100_000)  # imports make many objects and no garbage: collecting them took 8 % of a render
    replace_closed_streams()
    options = CommandContext()
    for command in (cli, *cli.commands.values()):
        command.help = (command.help or "").replace(COMMAND, command_line())
    try:
        cli.main(obj=options, standalone_mode=False, prog_name=command_line().split()[-1])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _report(error, *mistake_of(error, cli), EXIT_VALUES, options)
    except KitError as error:
        return _report(error, error.message, error.hint, error.exit_code, options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has seen enough
        discard(sys.stdout)
        return EXIT_NO
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error}"
        return _report(error, text, "report it with the output of --debug", EXIT_INTERNAL, options)
    return 0


def _report(error: Exception, text: str, fix: str, code: int, options: Options) -> int:
    if options.debug:
        import traceback

        talk("".join(traceback.format_exception(error)))
    talk(with_fix(text, fix))
    return code
