# SPDX-License-Identifier: Apache-2.0
"""What a command works on: the values, loaded once, their job, and the connection to the cluster."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpikit.cli.options import ROOT, Options
from mpikit.cli.view import changed_values, headline, notes
from mpikit.config.job import Job, smoke_settings
from mpikit.config.layers import Values, load_values
from mpikit.config.loader import load_job
from mpikit.diagnostics import Fault
from mpikit.errors import ValuesError, one_fault
from mpikit.render.payload import read_payload
from mpikit.render.renderer import Rendered, render
from mpikit.text.redaction import keep_secrets_of
from mpikit.text.terminal import talk

if TYPE_CHECKING:
    from mpikit.lifecycle.status import Status


def load(options: Options) -> tuple[Values, Job, list[Fault]]:
    """The values of all layers and the job that they make."""
    job, warnings = load_job(values := _values(options, options.settings))
    if options.smoke:
        settings = [("--smoke", f"{key}={value}") for key, value in smoke_settings(job).items()]
        job, warnings = load_job(values := _values(options, [*options.settings, *settings]))
    return values, job, warnings


def _values(options: Options, settings: Sequence[tuple[str, str]]) -> Values:
    values = load_values(options.root, options.files, settings, login(), options.user_file)
    keep_secrets_of(values.data)
    return values


def login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no environment variable and no passwd entry
        return ""


def known_login() -> str:
    """The login name, if it can name somebody's jobs; else empty."""
    name = login()
    return "" if name == "root" else name


def rendered_job(job: Job) -> Rendered:
    return render(job, read_payload(ROOT / "vit"))


def introduce(values: Values, job: Job, warnings: Sequence[Fault]) -> None:
    talk(headline(job), *changed_values(values), *notes(job, values), *warnings)


class Session:
    """A connection, and whose jobs it is about."""

    def __init__(self, options: Options) -> None:
        from mpikit.kube.client import REQUEST_SECONDS, Cluster

        if options.debug:
            _show_requests()
        self.cluster = Cluster(options.kubeconfig, options.context, options.request_seconds or REQUEST_SECONDS)
        self.job = _job_of(options)
        self.user = self.job.user if self.job else known_login()
        self.namespace = options.namespace or (self.job and self.job.namespace) or self.cluster.namespace

    def chosen(self, name: str | None, *, only: bool = False) -> str:
        """The job that is named, else the user's newest; with `only` there must be no other."""
        from mpikit.kube.api import MPIJOB, find_all
        from mpikit.kube.resources import MPIJob

        if name:
            return name.rpartition("/")[2]
        jobs = sorted(map(MPIJob, find_all(self.cluster, MPIJOB, self.namespace)), key=lambda job: str(job.created))
        own = [job for job in jobs if job.user == self.user]
        if not own or (only and len(own) > 1):
            there = (
                f"name one of {', '.join(job.name for job in jobs)}" if jobs else "python generate.py submit makes one"
            )
            what = f"{self.user} has {len(own) or 'no'} jobs in namespace {self.namespace}"
            raise one_fault("", what, there, "NAME")
        if len(own) > 1:
            talk(f"{own[-1].name} is the newest of {len(own)} jobs of {self.user} in namespace {self.namespace}")
        return own[-1].name

    def status(self, name: str, silent_seconds: float | None = None) -> Status:
        """The status of a job; NotFound if nothing at all is known of it."""
        from mpikit.errors import NotFound
        from mpikit.lifecycle.snapshot import read_snapshot
        from mpikit.lifecycle.status import SILENT_SECONDS, status_of

        snapshot = read_snapshot(self.cluster, self.namespace, name)
        if snapshot.job is None and not snapshot.pods and not snapshot.events:
            fix = f"python generate.py list -n {self.namespace} shows what is there"
            raise NotFound(f"there is no MPIJob {name} in namespace {self.namespace}\n  fix: {fix}")
        return status_of(snapshot, SILENT_SECONDS if silent_seconds is None else silent_seconds)


def _job_of(options: Options) -> Job | None:
    """The job that the values describe; None if they are wrong and the flags say all that is needed."""
    try:
        return load(options)[1]
    except ValuesError:
        if options.namespace:
            return None
        raise


def _show_requests() -> None:
    """Print each request with its answer's code and time; never its headers."""
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: talk(f"debug: {record.getMessage()}")  # type: ignore[method-assign]
    logger = logging.getLogger("mpikit")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
