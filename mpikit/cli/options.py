# SPDX-License-Identifier: Apache-2.0
"""The options that all verbs share, and the job that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mpikit.errors import one_fault
from mpikit.resources import IS_CHECKOUT, USER_FILE, VALUES, version
from mpikit.text.terminal import show
from mpikit.text.units import seconds_of


@dataclass(eq=False)
class Options:
    """What the options shared by all verbs say, before or after the verb."""

    files: list[str] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    root: Path = VALUES
    user_file: bool = True
    profile: str | None = None
    smoke: bool = False
    out: str | None = None
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    request_seconds: float | None = None
    debug: bool = False

    @property
    def own_values(self) -> Path:
        """The user's own values file: that of the current folder; else, in a checkout, that of its values/."""
        here = Path("values", USER_FILE)
        if self.root == VALUES and (not IS_CHECKOUT or here.exists()):
            return here
        return self.root / USER_FILE


def shared_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that all verbs share."""
    return _with(function, [_values_option("-f", "--values"), *SHARED])


def shared_options_but_f(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a verb whose -f means follow, as kubectl's: values files only by --values."""
    return _with(function, [_values_option("--values"), *SHARED])


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that say for which cluster a manifest is checked; named as Target's fields."""
    return _with(function, TARGET)


def time_span(text: str, flag: str) -> float:
    """Seconds of a time span. Raises ValuesError, which names the flag."""
    seconds = seconds_of(text)
    if seconds is None:
        raise one_fault("", f'"{text}" is not a valid time span', "write 90s, 10m, 2h or 1h30m", flag)
    return seconds


def _with(function: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    for option in reversed(options):
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


def _store_namespace(options: Options, value: str) -> None:
    options.namespace = value
    options.settings.append(("--namespace", f"namespace={value}"))


def _values_option(*names: str) -> Callable[..., Any]:
    return _option(
        *names,
        multiple=True,
        metavar="FILE",
        help="Values file over the profile and values/user.yaml; repeatable, the later wins. - is stdin.",
        store=lambda options, value: options.files.extend(value),
    )


SHARED = [
    _option(
        "--set",
        multiple=True,
        metavar="KEY=VALUE",
        help="One value, such as train.num_steps=100; wins over all files. null removes a value.",
        store=lambda options, value: options.settings.extend(("--set", text) for text in value),
    ),
    _option(
        "--profile",
        metavar="NAME",
        help="Base of the values: voyager, gaudi2, gaudi3, nvidia, cpu, or another file of values/ with a device.",
        store=lambda options, value: setattr(options, "profile", value),
    ),
    _option("--nodes", metavar="N", help="Worker nodes.", store=_setting("--nodes", "nodes")),
    _option("--cards", metavar="N", help="Accelerators of a node.", store=_setting("--cards", "cards")),
    _option("-n", "--namespace", metavar="NAME", help="Namespace.", store=_store_namespace),
    _option(
        "--context",
        metavar="NAME",
        help="Context of kubeconfig.",
        store=lambda options, value: setattr(options, "context", value),
    ),
    _option(
        "--kubeconfig",
        metavar="FILE",
        help="As for kubectl.  [default: KUBECONFIG, ~/.kube/config, then the pod's own account]",
        store=lambda options, value: setattr(options, "kubeconfig", value),
    ),
    _option(
        "--request-timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        help="Limit of one request to the API server; a command's repeats take at most 3 times as long.  [default: 15]",
        store=lambda options, value: setattr(options, "request_seconds", value),
    ),
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
        help="Show the traceback of an error, and each request to the API server.",
        store=lambda options, value: setattr(options, "debug", value),
    ),
]


def _show_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        show(f"vit-mpijob {version()}")
        context.exit()


VERSION_OPTION = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)

OUT_OPTION = _option(
    "--out",
    metavar="DIR",
    help="Write job.yaml and the scripts there (and vit/ for delivery: mydir), instead of printing.",
    store=lambda options, value: setattr(options, "out", value),
)


TARGET = [
    click.option(
        "--kubernetes-version",
        "kubernetes",
        default="",
        help="Such as 1.34: its fields, its Pod Security.  [default: the newest known]",
    ),
    click.option("--operator-version", "operator", default="", help="MPI Operator that must know each field."),
    click.option(
        "--pod-security",
        type=click.Choice(["privileged", "baseline", "restricted"]),
        default="privileged",
        show_default=True,
        help="Pod Security level of the namespace.",
    ),
]
