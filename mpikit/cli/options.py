# SPDX-License-Identifier: Apache-2.0
"""The options that verbs share, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mpikit.cli.help import SharedOption
from mpikit.errors import one_fault
from mpikit.resources import IS_CHECKOUT, USER_FILE, VALUES, version
from mpikit.text.terminal import show
from mpikit.text.units import seconds_of

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "name"]),
    default="text",
    show_default=True,
    help="Format of the result.",
)


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that say for which cluster a manifest is checked; named as Target's fields."""
    return _with(function, TARGET)


def time_span(text: str, flag: str) -> float:
    """Return the seconds of a time span. Raises ValuesError, which names the flag."""
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


def _option(
    *names: str, store: Callable[[Options, Any], object], section: str = "Values", **more: Any
) -> Callable[[bool], Decorator]:
    """Return an option as a function of whether the help leaves it out."""
    shared: dict[str, Any] = {"cls": SharedOption, "section": section, "expose_value": False, "callback": _keep(store)}
    return lambda hidden: click.option(*names, **shared, **more, hidden=hidden)


def _setting(name: str, key: str) -> Callable[[Options, Any], object]:
    return lambda options, value: options.settings.append((name, f"{key}={value}"))


def _store_namespace(options: Options, value: str) -> None:
    options.namespace = value
    options.settings.append(("--namespace", f"namespace={value}"))


def _values_option(*names: str) -> Callable[[bool], Decorator]:
    return _option(
        *names,
        multiple=True,
        metavar="FILE",
        help="Read values from FILE, over the profile and values/user.yaml. Repeatable; the last one wins. - is stdin.",
        store=lambda options, value: options.files.extend(value),
    )


_PROFILE = _option(
    "--profile",
    metavar="NAME",
    help="Base of the values: voyager, gaudi2, gaudi3, nvidia, cpu, or another file of values/ with a device.",
    store=lambda options, value: setattr(options, "profile", value),
)
_ROOT = _option(
    "--values-root",
    metavar="DIR",
    help="Folder of default.yaml and user.yaml.  [default: values/]",
    store=lambda options, value: setattr(options, "root", Path(value)),
)
_VALUES = [
    _option(
        "--set",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one value over all files: train.num_steps=100, 'dataset={pvc: data}'. "
        "null removes it. Write a dot within a key as \\.",
        store=lambda options, value: options.settings.extend(("--set", text) for text in value),
    ),
    _PROFILE,
    _option(
        "--no-user-file",
        is_flag=True,
        default=None,
        help="Do not read values/user.yaml.",
        store=lambda options, value: setattr(options, "user_file", not value),
    ),
    _ROOT,
]
_SIZE = [
    _option("--nodes", metavar="N", help="Number of worker nodes.", store=_setting("--nodes", "nodes")),
    _option("--cards", metavar="N", help="Accelerators of a node.", store=_setting("--cards", "cards")),
    _option(
        "--smoke",
        is_flag=True,
        default=None,
        help="Run 20 steps on 1 node, as a job with another name.",
        store=lambda options, value: setattr(options, "smoke", value),
    ),
]
_NAMESPACE = _option(
    "-n", "--namespace", metavar="NAME", help="Namespace of the job.", store=_store_namespace, section="Cluster"
)
_CLUSTER = [
    _option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig.",
        store=lambda options, value: setattr(options, "context", value),
        section="Cluster",
    ),
    _option(
        "--kubeconfig",
        metavar="FILE",
        help="As for kubectl.  [default: KUBECONFIG, ~/.kube/config, then the pod's own account]",
        store=lambda options, value: setattr(options, "kubeconfig", value),
        section="Cluster",
    ),
    _option(
        "--request-timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        help="Limit of one request to the API server; with its retries, 3 times as long.  [default: 15]",
        store=lambda options, value: setattr(options, "request_seconds", value),
        section="Cluster",
    ),
]
_DEBUG = _option(
    "--debug",
    is_flag=True,
    default=None,
    help="Show the traceback of an error, and each request to the API server.",
    store=lambda options, value: setattr(options, "debug", value),
    section="Other options",
)
_FILES, _LONG_FILES = _values_option("-f", "--values"), _values_option("--values")


def _shared(*shown: Callable[[bool], Decorator], hidden: Sequence[Callable[[bool], Decorator]] = ()) -> Decorator:
    """Give a verb the shared options that act on it. Hidden ones do nothing there, and may be in a repeated line."""
    options = [*(option(False) for option in shown), *(option(True) for option in hidden), _DEBUG(False)]
    return lambda function: _with(function, options)


submit_options = _shared(_FILES, *_VALUES, *_SIZE, _NAMESPACE, *_CLUSTER)
"""Of a verb that needs a job and a cluster."""
render_options = _shared(_FILES, *_VALUES, *_SIZE, _NAMESPACE, hidden=_CLUSTER)
"""Of a verb that needs a job and no cluster."""
job_options = _shared(_FILES, *_VALUES, _NAMESPACE, *_CLUSTER, hidden=_SIZE)
"""Of a verb that looks for a job on the cluster: the values say whose, and where."""
logs_options = _shared(_LONG_FILES, *_VALUES, _NAMESPACE, *_CLUSTER, hidden=_SIZE)
"""The same where -f means follow, as kubectl's."""
init_options = _shared(_PROFILE, _ROOT)
plain_options = _shared()
"""Of a verb that reads no values."""


def _show_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        show(f"vit-mpijob {version()}")
        context.exit()


VERSION_OPTION = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Print the version."
)

OUT_OPTION = _option(
    "--out",
    metavar="DIR",
    help="Write job.yaml and the scripts to DIR (and vit/ for delivery: mydir) instead of printing.",
    store=lambda options, value: setattr(options, "out", value),
    section="Options",
)(False)


TARGET = [
    click.option(
        "--kubernetes-version",
        "kubernetes",
        default="",
        help="Version of the cluster, such as 1.34.  [default: the newest known]",
    ),
    click.option(
        "--operator-version",
        "operator",
        default="",
        help="Release of the MPI Operator, which must know each field and value.",
    ),
    click.option(
        "--pod-security",
        type=click.Choice(["privileged", "baseline", "restricted"]),
        default="privileged",
        show_default=True,
        help="Pod Security level of the namespace.",
    ),
]
