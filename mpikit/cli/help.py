# SPDX-License-Identifier: Apache-2.0
"""How the command line looks: commands in groups, a command's own options first, and what to type after a mistake."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from mpikit.text.terminal import COMMAND, show

GROUPS = {
    "Set up": ("init", "weights", "data", "schema"),
    "Before you submit": ("render", "check", "doctor", "diff"),
    "Run": ("submit", "run"),
    "Watch": ("status", "top", "list", "logs", "wait", "tensorboard"),
    "Use the result": ("report", "predict", "export"),
    "Recover": ("repair", "rbac"),
    "Clean up": ("delete",),
    "Help": ("help",),
}
OTHER_WORDS = {  # what kubectl, docker, Slurm and others call these commands
    **dict.fromkeys(("apply", "create", "start", "launch", "train", "sbatch"), "submit"),
    **dict.fromkeys(("stop", "cancel", "kill", "rm", "remove", "scancel"), "delete"),
    **dict.fromkeys(("get", "ls", "ps", "jobs", "squeue"), "list"),
    **dict.fromkeys(("describe", "show", "info"), "status"),
    **dict.fromkeys(("validate", "lint", "verify", "test"), "check"),
    **dict.fromkeys(("template", "generate", "print"), "render"),
    **dict.fromkeys(("infer", "inference", "classify", "attention"), "predict"),
    **dict.fromkeys(("plot", "curves", "dashboard", "summary", "compare"), "report"),
    **dict.fromkeys(("convert", "onnx", "timm", "hf"), "export"),
    **dict.fromkeys(("config", "setup", "configure"), "init"),
}
NARROWEST, WIDEST = 30, 100  # columns


class Formatter(click.HelpFormatter):
    """Help as wide as the terminal; on a narrow one, long options stand on a line of their own."""

    def __init__(self, **more: Any) -> None:
        columns = shutil.get_terminal_size((80, 24)).columns
        super().__init__(**more | {"width": max(NARROWEST, min(columns, WIDEST) - 1)})

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 28, col_spacing: int = 2) -> None:
        """Write terms and their explanations."""
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class Context(click.Context):
    """A context whose help is formatted as above."""

    formatter_class = Formatter


class SharedOption(click.Option):
    """An option that several commands have, and the section of the help that lists it."""

    def __init__(self, *names: Any, section: str, **more: Any) -> None:
        super().__init__(*names, **more)
        self.section = section


class Helped(click.Command):
    """A command whose --help reports output that cannot be written."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return --help."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        show(context.get_help())
        context.exit()


class Verb(Helped):
    """A command whose own options come first in its help."""

    context_class = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for the command's own options, and one for each kind of shared ones."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Values": [], "Cluster": [], "Other options": []}
        for parameter in self.get_params(ctx):
            own = "Other options" if {"--help", "--version"} & {*parameter.opts} else "Options"
            row = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if row:
                sections[getattr(parameter, "section", own)].append(row)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Kit(Verb, click.Group):
    """The command with all of its verbs."""

    command_class = Verb

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, group by group and each with a whole sentence, then the options."""
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary(self.commands[name])) for name in names])
        super().format_options(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names; a Mistake for an unknown one."""
        if args[0] not in self.commands:
            raise Mistake(f"No such command '{args[0]}'.", self._meant(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, word: str) -> str:
        """Return what to type in the place of an unknown command."""
        if word.endswith(("}", "]")) and (setting := _split_setting(sys.argv[1:], word)):
            return f"put the value in quotes for the shell: --set {shlex.quote(setting)}"
        if word.endswith((".yaml", ".yml")) or os.path.isfile(word):  # noqa: PTH113  Path.is_file raises on long names
            return f"-f {shlex.quote(word)}"
        if any(f"--{word}" in parameter.opts for parameter in self.params):
            return f"--{word}"
        near = OTHER_WORDS.get(word.lower()) or _nearest(word.lower(), self.commands)
        return f"{COMMAND} {near}" if near else f"{COMMAND} --help lists the commands"


class Mistake(click.UsageError):
    """A word that the command line does not know, and what to type instead."""

    def __init__(self, message: str, fix: str, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.fix = fix


def summary(command: click.Command) -> str:
    """Return the first sentence of a command's help."""
    paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def mistake_of(error: click.ClickException, everything: click.Group) -> tuple[str, str]:
    """Return what is wrong with a command line, and what to type."""
    if isinstance(error, Mistake):
        return error.format_message(), error.fix
    path = error.ctx.command_path.split()[1:] if isinstance(error, click.UsageError) and error.ctx else []
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
        return f"Option {error.param.opts[-1]} is missing", " ".join([COMMAND, *path, _with_value(error.param)])
    if isinstance(error, click.BadOptionUsage) and (option := _option(error.option_name, everything)):
        return error.format_message(), _with_value(option)
    if "unexpected extra argument" in error.format_message() and (file := _file_of(error.format_message())):
        return error.format_message(), " ".join([COMMAND, *path, "-f", file])
    if isinstance(error, click.NoSuchOption):
        return f"No such option: {error.option_name}", _meant_option(error, path, everything)
    return error.format_message(), f"{' '.join([COMMAND, *path])} --help lists the options"


def _meant_option(error: click.NoSuchOption, path: Sequence[str], everything: click.Group) -> str:
    here = " ".join([COMMAND, *path])
    known = [name for command in (error.ctx.command if error.ctx else everything,) for name in _names(command)]
    if near := _nearest(error.option_name, known):
        return f"{here} {near}"
    if any(error.option_name in _names(command) for command in (everything, *everything.commands.values())):
        return f"leave it out: {' '.join(path) or 'render'} does not use it"
    return f"{here} --help lists the options"


def _option(name: str, everything: click.Group) -> click.Option | None:
    """Return the option of this name that takes a value."""
    commands = (everything, *everything.commands.values())
    known = (one for command in commands for one in command.params if isinstance(one, click.Option) and not one.is_flag)
    return next((one for one in known if name in one.opts), None)


def _with_value(option: click.Option) -> str:
    """Return the option as it is to be typed, such as --nodes N."""
    return f"{option.opts[-1]} {option.metavar or option.type.name.upper()}"


def _file_of(message: str) -> str:
    """Return the values file in click's sentence about an extra argument, if it is one."""
    word = message.rpartition("(")[2].rstrip(")")
    return word if word.endswith((".yaml", ".yml")) else ""


def _names(command: click.Command) -> Iterator[str]:
    """Yield the options of a command, as people type them."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield from (*parameter.opts, *parameter.secondary_opts)


def _nearest(word: str, known: Iterable[str]) -> str | None:
    names = {name.strip("-"): name for name in known}
    near = difflib.get_close_matches(word.strip("-"), names, n=1, cutoff=0.75)
    return names[near[0]] if near else None


def _split_setting(words: Sequence[str], last: str) -> str:
    """Return the setting that a shell has cut at its blanks, up to its last word: dataset={pvc: data}."""
    end = words.index(last) if last in words else 0
    starts = [number for number in range(end) if "={" in words[number] or "=[" in words[number]]
    return " ".join(words[starts[-1] : end + 1]) if starts else ""
