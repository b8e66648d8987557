# SPDX-License-Identifier: Apache-2.0
"""What a command works on: the values, loaded once, their job, and the connection to the cluster."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mpikit.cli.options import Options
from mpikit.cli.view import changed_values, headline, notes
from mpikit.diagnostics import Diagnostic
from mpikit.errors import NotFound, ValuesError, one_fault
from mpikit.resources import ROOT
from mpikit.text.terminal import talk

if TYPE_CHECKING:  # --help needs none of them
    from mpikit.config.job import Job
    from mpikit.config.values import Values
    from mpikit.render.renderer import Rendered
    from mpikit.status.verdict import Status
    from mpikit.text.manifest import Manifest


@dataclass(frozen=True)
class Loaded:
    """The values of all layers, the job that they make, and the warnings about it."""

    values: Values
    job: Job
    warnings: list[Diagnostic]

    def require_user(self, *keys: str) -> None:
        """Raise ValuesError if the user is a guess: a placeholder, or one from which the namespace or folders follow.

        With `keys`, only if one of these follows from it.
        """
        from mpikit.config.identity import guess_error

        guess = self.values.guess
        if guess and (guess[1].intersection(keys) if keys else guess[0].placeholder or guess[1]):
            raise guess_error(guess[0])


@dataclass(eq=False)
class CommandContext(Options):
    """What the options say, and the job of the values that they name, read once: a pipe can be read only once."""

    _loaded: Loaded | ValuesError | None = field(default=None, init=False)

    def load(self) -> Loaded:
        """Return the same at each call. Raises ValuesError, the same at each call, if the values are wrong."""
        if self._loaded is None:
            try:
                self._loaded = self._read()
            except ValuesError as error:
                self._loaded = error
        if isinstance(self._loaded, ValuesError):
            raise self._loaded
        return self._loaded

    def _read(self) -> Loaded:
        from mpikit.config.job import smoke_settings
        from mpikit.config.loader import load_job
        from mpikit.config.values import overlay, read_layers
        from mpikit.text.redaction import keep_secrets_of

        sources = read_layers(self.root, self.files, login(), self.own_values if self.user_file else None, self.profile)
        values = overlay(sources, self.settings)
        keep_secrets_of(values.data)
        job, warnings = load_job(values)
        if self.smoke:
            Loaded(values, job, warnings).require_user()
            settings = [("--smoke", f"{key}={value}") for key, value in smoke_settings(job).items()]
            values = overlay(sources, [*self.settings, *settings])
            job, warnings = load_job(values)
        return Loaded(values, job, warnings)

    def rendered(self) -> Rendered:
        """Return the manifests and scripts of the job. Raises ValuesError."""
        from mpikit.render.payload import read_payload
        from mpikit.render.renderer import render

        return render(self.load().job, read_payload(ROOT / "vit"))

    @cached_property
    def manifest(self) -> Manifest:
        """The rendered manifest, parsed. Raises ValuesError."""
        from mpikit.text.manifest import read_manifest

        return read_manifest(self.rendered().manifest)

    def introduce(self, warnings: Sequence[Diagnostic] | None = None) -> None:
        """Say on stderr what the job is, which values were changed, and the warnings."""
        loaded = self.load()
        said = loaded.warnings if warnings is None else warnings
        talk(headline(loaded.job), *changed_values(loaded.values), *loaded.values.notes)
        talk(*notes(loaded.job, loaded.values), *said)


def login() -> str:
    """Return the login name; empty where the machine has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no environment variable and no passwd entry
        return ""


def known_user() -> str:
    """Return the user name that follows from the login; empty if that is a placeholder."""
    from mpikit.config.identity import identity_of

    identity = identity_of(login())
    return "" if identity.placeholder else identity.name


class Session:
    """A connection, and whose jobs it is about."""

    def __init__(self, context: CommandContext) -> None:
        from mpikit.kube.client import Cluster
        from mpikit.kube.deadlines import REQUEST_SECONDS

        if context.debug:
            _show_requests()
        self.job = _job_of(context)
        seconds = context.request_seconds or REQUEST_SECONDS
        self.cluster = Cluster(context.kubeconfig, context.context, seconds, tell=talk)
        self.user = self.job.user if self.job else known_user()
        self.namespace = context.namespace or (self.job and self.job.namespace) or self.cluster.namespace

    def chosen(self, name: str | None, *, only: bool = False) -> str:
        """Return the job that is named, else the user's newest; with `only` there must be no other."""
        from mpikit.kube.api import MPIJOB, find_all
        from mpikit.kube.resources import MPIJob

        if name:
            return name.rpartition("/")[2]
        jobs = sorted(map(MPIJob, find_all(self.cluster, MPIJOB, self.namespace)), key=lambda job: str(job.created))
        own = [job for job in jobs if job.user == self.user]
        if not own or (only and len(own) > 1):
            there = (
                f"name one of {', '.join(job.name for job in jobs)}"
                if jobs
                else "python generate.py submit creates one"
            )
            what = f"{self.user} has {len(own) or 'no'} jobs in namespace {self.namespace}"
            raise one_fault("", what, there, "NAME") if own else NotFound(what, there)
        if len(own) > 1:
            talk(f"{own[-1].name} is the newest of {len(own)} jobs of {self.user} in namespace {self.namespace}")
        return own[-1].name

    def status(self, name: str, silent_seconds: float | None = None) -> Status:
        """Return the status of a job; NotFound if nothing at all is known of it."""
        from mpikit.status.snapshot import no_job, read_snapshot
        from mpikit.status.verdict import SILENT_SECONDS, status_of

        snapshot = read_snapshot(self.cluster, self.namespace, name)
        if snapshot.job is None and not snapshot.pods and not snapshot.events:
            raise no_job(name, self.namespace)
        return status_of(snapshot, SILENT_SECONDS if silent_seconds is None else silent_seconds)


def _job_of(context: CommandContext) -> Job | None:
    """Return the job that the values describe; None if they are wrong and the flags say all that is needed."""
    try:
        context.load().require_user()
        return context.load().job
    except ValuesError:
        if context.namespace:
            return None
        raise


def _show_requests() -> None:
    """Print each request with its answer's code and time; never its headers."""
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: talk(f"debug: {record.getMessage()}")  # type: ignore[method-assign]
    logger = logging.getLogger("mpikit")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
