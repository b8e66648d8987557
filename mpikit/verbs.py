# SPDX-License-Identifier: Apache-2.0
"""The verbs that talk to a cluster. Nothing here runs before its verb is asked for: rendering needs no client."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from mpikit.durations import seconds_of
from mpikit.errors import EXIT_NO, JobError, ManifestError, Timeout, ValuesError, one_fault, one_line
from mpikit.job import Job
from mpikit.options import Options, introduce, known_login, load, rendered_job, shared_options, shared_options_but_f
from mpikit.redaction import redact
from mpikit.terminal import clear, show, show_log, show_painted, talk

if TYPE_CHECKING:
    from mpikit.logs import JobLog
    from mpikit.status import Status

DELETE_TIMEOUT = "10m"  # the grace period of a large model's checkpoint is minutes
WAIT_TIMEOUT = "7d"
WATCH_SECONDS = 10

_output = click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml", "name"]), default="text", show_default=True
)
_name = click.argument("name", required=False)


class Session:
    """A connection, and whose jobs it is about."""

    def __init__(self, options: Options) -> None:
        from mpikit.cluster import REQUEST_SECONDS, Cluster

        if options.debug:
            _show_requests()
        self.cluster = Cluster(options.kubeconfig, options.context, options.request_seconds or REQUEST_SECONDS)
        self.job = _job_of(options)
        self.user = self.job.user if self.job else known_login()
        self.namespace = options.namespace or (self.job and self.job.namespace) or self.cluster.namespace

    def chosen(self, name: str | None, *, only: bool = False) -> str:
        """The job that is named, else the user's newest; with `only` there must be no other."""
        from mpikit.api import MPIJOB, find_all
        from mpikit.objects import MPIJob

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
        from mpikit.snapshot import read_snapshot
        from mpikit.status import SILENT_SECONDS, status_of

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


def _coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _width() -> int:
    from mpikit.display import MAX_WIDTH

    return min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)


def _show(
    output: str, value: Any, text: Callable[[], str], names: Iterable[str], show_text: Callable[[str], None] = show
) -> None:
    """Print a result in the form that -o asks for."""
    from mpikit.quoting import yaml_filter

    match output:
        case "json":
            show(json.dumps(value, indent=2))
        case "yaml":
            show(yaml_filter(value))
        case "name":
            show("\n".join(f"mpijob.kubeflow.org/{name}" for name in names))
        case _:
            show_text(text())


def _show_status(session: Session, status: Status, output: str) -> None:
    from mpikit.display import status_text

    def text() -> str:
        return status_text(status, session.cluster.now(), colour=_coloured(), width=_width())

    _show(output, status.as_dict(), text, [status.name], show_painted)


def _manifests(options: Options) -> tuple[Job, list[dict[str, Any]]]:
    """The job and its objects, checked offline and told on stderr."""
    from mpikit.manifest import check_manifest
    from mpikit.submission import objects_of

    values, job, warnings = load(options)
    text = rendered_job(job).manifest
    introduce(values, job, warnings)
    faults = [fault for fault in check_manifest(text, "the rendered manifest") if fault.severity == "fault"]
    if faults:
        raise ManifestError("\n".join(map(str, faults)))
    return job, objects_of(text)


@click.command()
@shared_options
@_output
@click.option("--wait", is_flag=True, help="Wait until the job has succeeded or failed; exit 0 or 1.")
@click.option("--follow", is_flag=True, help="The same, and print the launcher's lines.")
@click.option("--timeout", default=WAIT_TIMEOUT, metavar="SPAN", help="Limit of --wait, such as 2h.  [default: 7d]")
@click.pass_obj
def submit(options: Options, output: str, wait: bool, follow: bool, timeout: str) -> None:
    """Create the job on the cluster: all of its objects or none, never a second one by accident."""
    from mpikit.submission import submit as create

    seconds = seconds_of(timeout, "--timeout")
    session = Session(options)
    job, manifests = _manifests(options)
    if job.delivery == "mydir":
        talk("delivery: mydir: the files of --out DIR must lie in the shared folder")
    lines = create(session.cluster, manifests, session.namespace)
    value = {"name": job.job_name, "namespace": session.namespace, "objects": lines}
    if not (output == "json" and (wait or follow)):
        _show(output, value, lambda: "\n".join(lines), [job.job_name])
    if follow:
        _print_log(_log_of(session, job.job_name), follow=True)
    if wait or follow:
        _wait(session, job.job_name, "succeeded", seconds, output, quiet=follow)
    else:
        talk(f"next: python generate.py logs -f {job.job_name} -n {session.namespace}; status, wait and delete as well")


@click.command()
@_name
@shared_options
@_output
@click.option("-w", "--watch", is_flag=True, help="Go on until the job has ended; in a pipe, print what changes.")
@click.option("--silent-after", default="15m", metavar="SPAN", help="No line for so long is Stalled.  [default: 15m]")
@click.pass_obj
def status(options: Options, name: str | None, output: str, watch: bool, silent_after: str) -> None:
    """What became of a job, why, and what to do next. Without NAME: your newest."""
    seconds = seconds_of(silent_after, "--silent-after")
    session = Session(options)
    name = session.chosen(name)
    if watch:
        _watch_status(session, name, output, seconds)
    else:
        _show_status(session, session.status(name, seconds), output)


def _watch_status(session: Session, name: str, output: str, silent_seconds: float) -> None:
    from mpikit.display import status_line
    from mpikit.waiting import versions_of

    told, looked_at = "", -float("inf")
    clock = session.cluster.clock
    for job in versions_of(session.cluster, session.namespace, name, float("inf"), WATCH_SECONDS):
        over = job is None or job.finished is not None
        if clock() - looked_at < WATCH_SECONDS / 2 and not over:
            continue
        looked_at, now = clock(), session.status(name, silent_seconds)
        if sys.stdout.isatty() and output == "text":
            clear()
            _show_status(session, now, output)
        elif (line := status_line(now)) != told:
            told = line
            show(json.dumps(now.as_dict()) if output == "json" else line)
        if now.finished or (now.verdict == "Deleted" and not now.held_cards):
            return


@click.command("list")
@shared_options
@_output
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("--all-users", is_flag=True, help="Other users' jobs too.")
@click.pass_obj
def list_verb(options: Options, output: str, all_namespaces: bool, all_users: bool) -> None:
    """Your jobs with nodes, cards, verdict and age, and what holds cards although it is finished."""
    from mpikit.display import table, wasted
    from mpikit.snapshot import read_all_snapshots
    from mpikit.status import status_of

    session = Session(options)
    snapshots = read_all_snapshots(session.cluster, None if all_namespaces else session.namespace)
    found = sorted(map(status_of, snapshots), key=lambda status: (status.namespace, str(status.created), status.name))
    shown = [status for status in found if all_users or status.user in ("", session.user)]
    now = session.cluster.now()

    def text() -> str:
        where = "any namespace" if all_namespaces else f"namespace {session.namespace}"
        if not shown:
            return f"no jobs of {session.user} in {where}"
        return table(shown, now, colour=_coloured(), namespaces=all_namespaces)

    _show(output, [status.as_dict() for status in shown], text, [status.name for status in shown], show_painted)
    talk(*wasted(shown))
    if hidden := len(found) - len(shown):
        talk(f"{hidden} jobs of others are not shown: --all-users")


@click.command()
@_name
@shared_options_but_f
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, over restarts and broken streams.")
@click.option("--launcher", is_flag=True, help="The launcher's lines, with those of all ranks.  [default]")
@click.option("--rank", type=click.IntRange(min=0), metavar="R", help="Only the lines of this rank.")
@click.option("--worker", type=click.IntRange(min=0), metavar="I", help="The lines of this worker pod itself.")
@click.option("-p", "--previous", is_flag=True, help="The attempt before the present one.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.pass_obj
def logs(
    options: Options,
    name: str | None,
    follow: bool,
    launcher: bool,
    rank: int | None,
    worker: int | None,
    previous: bool,
    tail: int | None,
) -> None:
    """A job's lines; waits for a pod that is not there yet. Without NAME: your newest job."""
    if sum((launcher, rank is not None, worker is not None)) > 1:
        raise one_fault("", "name the lines of different places", "give one of them", "--launcher, --rank, --worker")
    session = Session(options)
    log = _log_of(session, session.chosen(name), rank, worker)
    _print_log(log, follow=follow, previous=previous, tail=tail)


def _log_of(session: Session, name: str, rank: int | None = None, worker: int | None = None) -> JobLog:
    from mpikit.logs import JobLog, Wanted

    wanted = Wanted("launcher", 0, rank) if worker is None else Wanted("worker", worker)
    return JobLog(session.cluster, session.namespace, name, wanted, talk)


def _print_log(log: JobLog, **how: Any) -> None:
    """The lines, each at once for a reader in a pipe."""
    for line in log.lines(**how):
        show_log(line)


@click.command()
@_name
@shared_options
@_output
@click.option(
    "--for", "goal", type=click.Choice(["succeeded", "running", "deleted"]), default="succeeded", show_default=True
)
@click.option("--timeout", default=WAIT_TIMEOUT, metavar="SPAN", help="Such as 90s, 2h or 1h30m.  [default: 7d]")
@click.pass_obj
def wait(options: Options, name: str | None, output: str, goal: str, timeout: str) -> None:
    """Wait for a job. Exit 0: reached; 1: it failed; 4: not in time. Without NAME: your newest."""
    seconds = seconds_of(timeout, "--timeout")
    session = Session(options)
    _wait(session, session.chosen(name), goal, seconds, output)


def _wait(session: Session, name: str, goal: Any, seconds: float, output: str, *, quiet: bool = False) -> None:
    """Wait, tell each new verdict on stderr, and end with the status on stdout, whatever it is."""
    from mpikit.display import status_line
    from mpikit.waiting import wait_for

    try:
        status = wait_for(session.cluster, session.namespace, name, goal, seconds, lambda one: talk(status_line(one)))
    except (JobError, Timeout) as error:
        if error.status and output != "text":
            _show_status(session, error.status, output)
        raise
    if output != "text":
        _show_status(session, status, output)
    elif not quiet:
        show(f"mpijob.kubeflow.org/{name} {goal}")


@click.command()
@_name
@shared_options
@_output
@click.option("--wait/--no-wait", default=True, help="Return when its cards are free.  [default: --wait]")
@click.option("--timeout", default=DELETE_TIMEOUT, metavar="SPAN", show_default=True, help="Limit of the wait.")
@click.option("--force", is_flag=True, help="Also a job that another user's label marks.")
@click.pass_obj
def delete(options: Options, name: str | None, output: str, wait: bool, timeout: str, force: bool) -> None:
    """Delete a job and all that belongs to it, but never its output. Without NAME: your only one."""
    from mpikit.deletion import delete_job

    seconds = seconds_of(timeout, "--timeout")
    session = Session(options)
    name = session.chosen(name, only=True)
    user = None if force else session.user
    done = delete_job(session.cluster, session.namespace, name, seconds, wait, talk, user)
    value = {"name": name, "namespace": session.namespace, "deleted": list(done.lines), "freed_cards": done.freed_cards}
    _show(output, value, lambda: "\n".join(done.lines), [name])
    if wait and done.freed_cards:
        talk(f"{done.freed_cards} cards are free again")


@click.command()
@shared_options
@_output
@click.pass_obj
def diff(options: Options, output: str) -> None:
    """What submitting would change, by the server's own dry run. Exit 0: nothing; 1: something."""
    from mpikit.submission import changes

    session = Session(options)
    job, manifests = _manifests(options)
    found = changes(session.cluster, manifests, session.namespace)
    value = [{"kind": one.kind, "name": one.name, "action": one.action, "diff": redact(one.diff)} for one in found]
    differing = [one for one in found if one.action != "same"]
    if output != "text" or differing:
        _show(output, value, lambda: "".join(one.diff for one in differing).rstrip("\n"), [job.job_name])
    if differing:
        raise SystemExit(EXIT_NO)


@click.command()
@shared_options
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@click.option("--probe", is_flag=True, help="Also start a small pod, without cards, that looks at the paths.")
@click.pass_obj
def doctor(options: Options, output: str, probe: bool) -> None:
    """Look at everything that the job needs on the cluster, before a card is used. Exit 1 if it cannot run."""
    from mpikit.doctor import Check, examine
    from mpikit.manifest import check_manifest
    from mpikit.submission import objects_of

    found: list[Check] = []

    def tell(check: Check) -> None:
        found.append(check)
        if output == "text":
            show_painted(_check_text(check))

    session: Session | None = None
    try:
        _, job, warnings = load(options)
        text = rendered_job(job).manifest
        faults = [*warnings, *check_manifest(text, "the rendered manifest")]
        session = Session(options)
    except ValuesError as error:
        faults = list(error.faults)
    for fault in faults:
        where = f"{fault.where}: " if fault.where else ""
        result: Any = "fault" if fault.severity == "fault" else "warning"
        tell(Check("values", result, f"{where}{fault.key}: {fault.message}", fault.fix))
    if session:
        if not faults:
            tell(Check("values", "ok", f"{job.job_name}: {job.nodes} nodes x {job.cards} {job.device}"))
        for check in examine(session.cluster, job, objects_of(text), session.namespace, probe=probe):
            tell(check)
    if output != "text":
        _show(output, [check.as_dict() for check in found], str, ())
    num_faults = sum(check.result == "fault" for check in found)
    if num_faults:
        raise JobError(
            f"{num_faults} faults: this job cannot run as it is"
            if num_faults > 1
            else "1 fault: this job cannot run as it is"
        )


def _check_text(check: Any) -> str:
    from mpikit.display import BAD, BUSY, GOOD, painted

    colours = {"ok": GOOD, "warning": BUSY, "fault": BAD}
    label = f"{check.result.upper() if check.result == 'fault' else check.result:<7}"
    head = painted(label, colours[check.result] if _coloured() else None)
    said = one_line(f"{check.check}: {check.message}")
    return f"{head}  {said}" + (f"\n         fix: {one_line(check.fix)}" if check.fix else "")


VERBS = (submit, status, list_verb, logs, wait, delete, diff, doctor)
