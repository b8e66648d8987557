# SPDX-License-Identifier: Apache-2.0
"""The verbs that talk to a cluster. Nothing here runs before its verb is asked for: rendering needs no client."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mpikit.cli.context import CommandContext, Session
from mpikit.cli.options import shared_options, shared_options_but_f, time_span
from mpikit.cli.view import check_text, coloured, show_result, show_status
from mpikit.diagnostics import Diagnostic, passed
from mpikit.errors import EXIT_NO, JobError, ManifestError, Timeout, ValuesError, one_fault
from mpikit.text.redaction import redact
from mpikit.text.terminal import clear, show, show_log, show_painted, talk
from mpikit.trainer import progress_values

if TYPE_CHECKING:
    from mpikit.config.job import Job
    from mpikit.lifecycle.logs import JobLog

DELETE_TIMEOUT = "10m"  # the grace period of a large model's checkpoint is minutes
WAIT_TIMEOUT = "7d"
WATCH_SECONDS = 10

_output = click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml", "name"]), default="text", show_default=True
)
_name = click.argument("name", required=False)


def _manifests(context: CommandContext) -> tuple[Job, list[dict[str, Any]]]:
    """The job and its objects, checked offline; stderr says what it is."""
    from mpikit.validation.manifest import check_manifest

    context.load().require_user()
    manifest = context.manifest
    context.introduce()
    faults = [fault for fault in check_manifest(manifest) if fault.severity == "fault"]
    if faults:
        raise ManifestError("\n".join(map(str, faults)))
    return context.load().job, manifest.objects


@click.command()
@shared_options
@_output
@click.option("--wait", is_flag=True, help="Wait until the job has succeeded or failed; exit 0 or 1.")
@click.option("--follow", is_flag=True, help="The same, and print the launcher's lines.")
@click.option("--timeout", default=WAIT_TIMEOUT, metavar="SPAN", help="Limit of --wait, such as 2h.  [default: 7d]")
@click.pass_obj
def submit(context: CommandContext, output: str, wait: bool, follow: bool, timeout: str) -> None:
    """Create the job on the cluster: all of its objects or none, never a second one by accident."""
    from mpikit.lifecycle.submit import submit as create

    seconds = time_span(timeout, "--timeout")
    session = Session(context)
    job, manifests = _manifests(context)
    if job.delivery == "mydir":
        talk("delivery: mydir: the files of --out DIR must lie in the shared folder")
    lines = create(session.cluster, manifests, session.namespace)
    value = {"name": job.job_name, "namespace": session.namespace, "objects": lines}
    if not (output == "json" and (wait or follow)):
        show_result(output, value, lambda: "\n".join(lines), [job.job_name])
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
def status(context: CommandContext, name: str | None, output: str, watch: bool, silent_after: str) -> None:
    """What became of a job, why, and what to do next. Without NAME: your newest."""
    seconds = time_span(silent_after, "--silent-after")
    session = Session(context)
    name = session.chosen(name)
    if watch:
        _watch_status(session, name, output, seconds)
    else:
        show_status(session.status(name, seconds), session.cluster.now(), output)


def _watch_status(session: Session, name: str, output: str, silent_seconds: float) -> None:
    from mpikit.cli.view import status_line
    from mpikit.lifecycle.wait import versions_of

    told, looked_at = "", -float("inf")
    clock = session.cluster.clock
    for job in versions_of(session.cluster, session.namespace, name, float("inf"), WATCH_SECONDS):
        over = job is None or job.finished is not None
        if clock() - looked_at < WATCH_SECONDS / 2 and not over:
            continue
        looked_at, now = clock(), session.status(name, silent_seconds)
        if sys.stdout.isatty() and output == "text":
            clear()
            show_status(now, session.cluster.now(), output)
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
def list_verb(context: CommandContext, output: str, all_namespaces: bool, all_users: bool) -> None:
    """Your jobs with nodes, cards, verdict and age, and what holds cards although it is finished."""
    from mpikit.cli.view import table, wasted
    from mpikit.lifecycle.snapshot import read_all_snapshots
    from mpikit.lifecycle.status import status_of

    session = Session(context)
    snapshots = read_all_snapshots(session.cluster, None if all_namespaces else session.namespace)
    found = sorted(map(status_of, snapshots), key=lambda status: (status.namespace, str(status.created), status.name))
    shown = [status for status in found if all_users or status.user in ("", session.user)]
    now = session.cluster.now()

    def text() -> str:
        where = "any namespace" if all_namespaces else f"namespace {session.namespace}"
        if not shown:
            return f"no jobs of {session.user} in {where}"
        return table(shown, now, colour=coloured(), namespaces=all_namespaces)

    show_result(output, [status.as_dict() for status in shown], text, [status.name for status in shown], show_painted)
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
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: only the progress lines, each as an object with the keys of metrics.jsonl.",
)
@click.pass_obj
def logs(
    context: CommandContext,
    name: str | None,
    follow: bool,
    launcher: bool,
    rank: int | None,
    worker: int | None,
    previous: bool,
    tail: int | None,
    output: str,
) -> None:
    """A job's lines; waits for a pod that is not there yet. Without NAME: your newest job."""
    if sum((launcher, rank is not None, worker is not None)) > 1:
        raise one_fault("", "name the lines of different places", "give one of them", "--launcher, --rank, --worker")
    session = Session(context)
    log = _log_of(session, session.chosen(name), rank, worker)
    _print_log(log, output, follow=follow, previous=previous, tail=tail)


def _log_of(session: Session, name: str, rank: int | None = None, worker: int | None = None) -> JobLog:
    from mpikit.lifecycle.logs import JobLog, Wanted

    wanted = Wanted("launcher", 0, rank) if worker is None else Wanted("worker", worker)
    return JobLog(session.cluster, session.namespace, name, wanted, talk)


def _print_log(log: JobLog, output: str = "text", **how: Any) -> None:
    """Print each line as soon as it is read; as JSON, only the progress lines."""
    for line in log.lines(**how):
        if output == "text":
            show_log(line)
        elif values := progress_values(line.decode("utf-8", "replace")):
            show(json.dumps(values))


@click.command()
@_name
@shared_options
@_output
@click.option(
    "--for", "goal", type=click.Choice(["succeeded", "running", "deleted"]), default="succeeded", show_default=True
)
@click.option("--timeout", default=WAIT_TIMEOUT, metavar="SPAN", help="Such as 90s, 2h or 1h30m.  [default: 7d]")
@click.pass_obj
def wait(context: CommandContext, name: str | None, output: str, goal: str, timeout: str) -> None:
    """Wait for a job. Exit 0: reached; 1: it failed; 4: not in time. Without NAME: your newest."""
    seconds = time_span(timeout, "--timeout")
    session = Session(context)
    session.cluster.until = session.cluster.clock() + seconds
    _wait(session, session.chosen(name), goal, seconds, output)


def _wait(session: Session, name: str, goal: Any, seconds: float, output: str, *, quiet: bool = False) -> None:
    """Wait, tell each new verdict on stderr, and end with the status on stdout, whatever it is."""
    from mpikit.cli.view import status_line
    from mpikit.lifecycle.wait import wait_for

    try:
        status = wait_for(session.cluster, session.namespace, name, goal, seconds, lambda one: talk(status_line(one)))
    except (JobError, Timeout) as error:
        if error.status and output != "text":
            show_status(error.status, session.cluster.now(), output)
        raise
    if output != "text":
        show_status(status, session.cluster.now(), output)
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
def delete(context: CommandContext, name: str | None, output: str, wait: bool, timeout: str, force: bool) -> None:
    """Delete a job and all that belongs to it, but never its output. Without NAME: your only one."""
    from mpikit.lifecycle.delete import delete_job

    seconds = time_span(timeout, "--timeout")
    session = Session(context)
    name = session.chosen(name, only=True)
    user = None if force else session.user
    done = delete_job(session.cluster, session.namespace, name, seconds, wait, talk, user)
    value = {"name": name, "namespace": session.namespace, "deleted": list(done.lines), "freed_cards": done.freed_cards}
    show_result(output, value, lambda: "\n".join(done.lines), [name])
    if wait and done.freed_cards:
        talk(f"{done.freed_cards} cards are free again")


@click.command()
@shared_options
@_output
@click.pass_obj
def diff(context: CommandContext, output: str) -> None:
    """What submitting would change, by the server's own dry run. Exit 0: nothing; 1: something."""
    from mpikit.lifecycle.diff import changes

    session = Session(context)
    job, manifests = _manifests(context)
    found = changes(session.cluster, manifests, session.namespace)
    value = [{"kind": one.kind, "name": one.name, "action": one.action, "diff": redact(one.diff)} for one in found]
    differing = [one for one in found if one.action != "same"]
    if output != "text" or differing:
        show_result(output, value, lambda: "".join(one.diff for one in differing).rstrip("\n"), [job.job_name])
    if differing:
        raise SystemExit(EXIT_NO)


@click.command()
@shared_options
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@click.option("--probe", is_flag=True, help="Also start a small pod, without cards, that looks at the paths.")
@click.pass_obj
def doctor(context: CommandContext, output: str, probe: bool) -> None:
    """Look at everything that the job needs on the cluster, before a card is used. Exit 1 if it cannot run."""
    from mpikit.preflight.check import as_dict
    from mpikit.preflight.doctor import examine
    from mpikit.validation.manifest import check_manifest

    found: list[Diagnostic] = []

    def tell(check: Diagnostic) -> None:
        found.append(check)
        if output == "text":
            show_painted(check_text(check))

    session: Session | None = None
    try:
        job, manifest = context.load().job, context.manifest
        faults = [*context.load().warnings, *check_manifest(manifest)]
    except ValuesError as error:
        faults = list(error.faults)
    else:
        context.load().require_user()
        session = Session(context)
    for fault in faults:
        where = f"{fault.where}: " if fault.where else ""
        tell(replace(fault, key="values", where="", message=f"{where}{fault.key}: {fault.message}"))
    if session:
        if not faults:
            tell(passed("values", f"{job.job_name}: {job.nodes} nodes x {job.cards} {job.device}"))
        for check in examine(session.cluster, job, manifest.objects, session.namespace, probe=probe):
            tell(check)
    if output != "text":
        show_result(output, [as_dict(check) for check in found], str, ())
    num_faults = sum(check.severity == "fault" for check in found)
    if num_faults:
        raise JobError(
            f"{num_faults} faults: this job cannot run as it is"
            if num_faults > 1
            else "1 fault: this job cannot run as it is"
        )


VERBS = (submit, status, list_verb, logs, wait, delete, diff, doctor)
