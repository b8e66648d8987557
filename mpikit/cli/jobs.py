# SPDX-License-Identifier: Apache-2.0
"""The verbs that talk to a cluster. Nothing here runs before its verb is asked for: rendering needs no client."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mpikit.cli.context import CommandContext, Session
from mpikit.cli.help import Verb
from mpikit.cli.options import job_options, logs_options, output_option, submit_options, time_span
from mpikit.cli.view import check_text, coloured, counted, drawable, show_panel, show_result, show_status
from mpikit.diagnostics import Diagnostic, passed
from mpikit.errors import EXIT_NO, JobError, ManifestError, Timeout, ValuesError, one_fault
from mpikit.text.redaction import redact
from mpikit.text.terminal import show, show_log, show_painted, talk
from mpikit.trainer import progress_values

if TYPE_CHECKING:
    from mpikit.config.job import Job
    from mpikit.lifecycle.logs import JobLog

DELETE_TIMEOUT = "10m"  # the grace period of a large model's checkpoint is minutes
WAIT_TIMEOUT = "7d"
WATCH_SECONDS = 10

_name = click.argument("name", required=False)


def _manifests(context: CommandContext) -> tuple[Job, list[dict[str, Any]]]:
    """Return the job and its objects, checked offline; stderr says what it is."""
    from mpikit.validation.manifest import check_manifest

    context.load().require_user()
    manifest = context.manifest
    context.introduce()
    faults = [fault for fault in check_manifest(manifest) if fault.severity == "fault"]
    if faults:
        raise ManifestError("\n".join(map(str, faults)))
    return context.load().job, manifest.objects


@click.command(cls=Verb)
@output_option
@click.option("--wait", is_flag=True, help="Wait until the job has succeeded (exit code 0) or failed (1).")
@click.option("--follow", is_flag=True, help="Wait, and print the launcher's log.")
@click.option("--timeout", default=WAIT_TIMEOUT, metavar="SPAN", help="Limit of --wait, such as 2h.  [default: 7d]")
@submit_options
@click.pass_obj
def submit(context: CommandContext, output: str, wait: bool, follow: bool, timeout: str) -> None:
    """Create the job on the cluster, with all of its objects or none.

    A job of the same name is an error, and stays as it is.

    \b
        python generate.py submit --nodes 2 --wait
    """
    from mpikit.lifecycle.submit import submit as create

    seconds = time_span(timeout, "--timeout")
    job, manifests = _manifests(context)
    session = Session(context)
    if job.delivery == "mydir":
        talk("delivery: mydir: the files of --out DIR must be in the shared folder")
    lines = create(session.cluster, manifests, session.namespace)
    value = {"name": job.job_name, "namespace": session.namespace, "objects": lines}
    if not (output == "json" and (wait or follow)):
        show_result(output, value, lambda: "\n".join(lines), [job.job_name])
    if follow:
        _print_log(_log_of(session, job.job_name), follow=True)
    if wait or follow:
        _wait(session, job.job_name, "succeeded", seconds, output, quiet=follow)
    else:
        talk(f"next: python generate.py logs -f {job.job_name} -n {session.namespace}")


@click.command(cls=Verb)
@_name
@output_option
@click.option(
    "-w", "--watch", is_flag=True, help="Repeat until the job has ended: a panel on a terminal, only changes in a pipe."
)
@click.option(
    "--silent-after",
    default="15m",
    metavar="SPAN",
    help="Time without a line until Stalled.  [default: 15m]",
)
@job_options
@click.pass_obj
def status(context: CommandContext, name: str | None, output: str, watch: bool, silent_after: str) -> None:
    """Show the state of a job, the reason, and what to do next.

    NAME defaults to your newest job.

    \b
        python generate.py status --watch
    """
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

    shown, looked_at = "", -float("inf")
    clock = session.cluster.clock
    for job in versions_of(session.cluster, session.namespace, name, float("inf"), WATCH_SECONDS):
        over = job is None or job.finished is not None
        if clock() - looked_at < WATCH_SECONDS / 2 and not over:
            continue
        looked_at, now = clock(), session.status(name, silent_seconds)
        if sys.stdout.isatty() and output == "text":
            show_panel(now, session.cluster.now(), WATCH_SECONDS)
        elif (line := status_line(now)) != shown:
            shown = line
            show(json.dumps(now.as_dict()) if output == "json" else line)
        if now.finished or (now.verdict == "Deleted" and not now.held_cards):
            return


@click.command("list", cls=Verb)
@output_option
@click.option("-A", "--all-namespaces", is_flag=True, help="List the jobs of all namespaces.")
@click.option("--all-users", is_flag=True, help="List the jobs of all users.")
@job_options
@click.pass_obj
def list_verb(context: CommandContext, output: str, all_namespaces: bool, all_users: bool) -> None:
    """List your jobs, and the finished ones that still hold accelerators.

    \b
        python generate.py list --all-users
    """
    from mpikit.cli.view import table, wasted
    from mpikit.status.snapshot import read_all_snapshots
    from mpikit.status.verdict import status_of

    session = Session(context)
    snapshots = read_all_snapshots(session.cluster, None if all_namespaces else session.namespace)
    found = sorted(map(status_of, snapshots), key=lambda status: (status.namespace, str(status.created), status.name))
    shown = [status for status in found if all_users or status.user in ("", session.user)]
    now = session.cluster.now()

    def text() -> str:
        where = "any namespace" if all_namespaces else f"namespace {session.namespace}"
        if not shown:
            return f"no jobs of {session.user} in {where}"
        return table(shown, now, colour=coloured(), namespaces=all_namespaces, drawn=drawable())

    show_result(output, [status.as_dict() for status in shown], text, [status.name for status in shown], show_painted)
    talk(*wasted(shown))
    if hidden := len(found) - len(shown):
        talk(f"not shown: {counted(hidden, 'job')} of other users; --all-users lists all")


@click.command(cls=Verb)
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, also after a restart.")
@click.option("--launcher", is_flag=True, help="Print the launcher's log, with the lines of all ranks.  [default]")
@click.option("--rank", type=click.IntRange(min=0), metavar="R", help="Print only the lines of this rank.")
@click.option("--worker", type=click.IntRange(min=0), metavar="I", help="Print the log of this worker pod.")
@click.option("-p", "--previous", is_flag=True, help="Print the log of the previous attempt.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Start with the last N lines.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: print only the progress lines, each as an object with the keys of metrics.jsonl.",
)
@logs_options
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
    """Print the log of a job, and wait for a pod that does not exist yet.

    NAME defaults to your newest job.

    \b
        python generate.py logs -f --tail 20
    """
    if sum((launcher, rank is not None, worker is not None)) > 1:
        raise one_fault("", "cannot be combined", "use one of them", "--launcher, --rank, --worker")
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


@click.command(cls=Verb)
@_name
@output_option
@click.option(
    "--for",
    "goal",
    type=click.Choice(["succeeded", "running", "deleted"]),
    default="succeeded",
    show_default=True,
    help="State to wait for.",
)
@click.option(
    "--timeout",
    default=WAIT_TIMEOUT,
    metavar="SPAN",
    help="Limit, such as 90s, 2h or 1h30m.  [default: 7d]",
)
@job_options
@click.pass_obj
def wait(context: CommandContext, name: str | None, output: str, goal: str, timeout: str) -> None:
    """Wait until a job has succeeded, runs or is deleted.

    NAME defaults to your newest job. The exit code is 0 if the state is reached, 1 if the job failed, and 4 after the
    timeout.

    \b
        python generate.py wait --for running --timeout 2h
    """
    seconds = time_span(timeout, "--timeout")
    session = Session(context)
    session.cluster.until = session.cluster.clock() + seconds
    _wait(session, session.chosen(name), goal, seconds, output)


def _wait(session: Session, name: str, goal: Any, seconds: float, output: str, *, quiet: bool = False) -> None:
    """Wait, print each new verdict on stderr, and at the end the status on stdout."""
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


@click.command(cls=Verb)
@_name
@output_option
@click.option("--wait/--no-wait", default=True, help="Return when its accelerators are free.  [default: --wait]")
@click.option("--timeout", default=DELETE_TIMEOUT, metavar="SPAN", show_default=True, help="Longest time to wait.")
@click.option("--force", is_flag=True, help="Delete the job even if its label names another user.")
@job_options
@click.pass_obj
def delete(context: CommandContext, name: str | None, output: str, wait: bool, timeout: str, force: bool) -> None:
    """Delete a job and everything that belongs to it, but never its output.

    NAME defaults to your job, if you have only one.

    \b
        python generate.py delete ada-vit-16cards
    """
    from mpikit.lifecycle.delete import delete_job

    seconds = time_span(timeout, "--timeout")
    session = Session(context)
    name = session.chosen(name, only=True)
    user = None if force else session.user
    done = delete_job(session.cluster, session.namespace, name, seconds, wait, talk, user)
    value = {"name": name, "namespace": session.namespace, "deleted": list(done.lines), "freed_cards": done.freed_cards}
    show_result(output, value, lambda: "\n".join(done.lines), [name])
    if wait and done.freed_cards:
        talk(f"{counted(done.freed_cards, 'card')} released")


@click.command(cls=Verb)
@output_option
@submit_options
@click.pass_obj
def diff(context: CommandContext, output: str) -> None:
    """Show what submitting would change, by a dry run on the server.

    The exit code is 0 if nothing would change, and 1 otherwise.

    \b
        python generate.py diff --nodes 4
    """
    from mpikit.lifecycle.diff import changes

    job, manifests = _manifests(context)
    session = Session(context)
    found = changes(session.cluster, manifests, session.namespace)
    value = [{"kind": one.kind, "name": one.name, "action": one.action, "diff": redact(one.diff)} for one in found]
    differing = [one for one in found if one.action != "same"]
    if output != "text" or differing:
        show_result(output, value, lambda: "".join(one.diff for one in differing).rstrip("\n"), [job.job_name])
    if differing:
        raise SystemExit(EXIT_NO)


@click.command(cls=Verb)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="Format of the result.",
)
@click.option("--probe", is_flag=True, help="Also start a small pod without accelerators that checks the paths.")
@submit_options
@click.pass_obj
def doctor(context: CommandContext, output: str, probe: bool) -> None:
    """Check that the cluster can run the job, before any accelerator is used.

    The exit code is 1 if the job cannot run.

    \b
        python generate.py doctor --probe
    """
    from mpikit.preflight.check import as_dict

    found: list[Diagnostic] = []
    for check in _examined(context, probe):
        found.append(check)
        if output == "text":
            show_painted(check_text(check))
    if output != "text":
        show_result(output, [as_dict(check) for check in found], str, ())
    num_faults = sum(check.severity == "fault" for check in found)
    if num_faults:
        raise JobError(f"{counted(num_faults, 'error')}: this job cannot run as it is")


def _examined(context: CommandContext, probe: bool) -> Iterator[Diagnostic]:
    """Yield the checks of the values and, if they make a job, those of the cluster."""
    from mpikit.preflight.doctor import examine
    from mpikit.validation.manifest import check_manifest

    try:
        job, manifest = context.load().job, context.manifest
        faults = [*context.load().warnings, *check_manifest(manifest)]
    except ValuesError as error:
        yield from map(_of_values, error.faults)
        return
    context.load().require_user()
    session = Session(context)
    yield from map(_of_values, faults)
    if not faults:
        yield passed("values", f"{job.job_name}: {counted(job.nodes, 'node')} x {job.cards} {job.device}")
    yield from examine(session.cluster, job, manifest.objects, session.namespace, probe=probe)


def _of_values(fault: Diagnostic) -> Diagnostic:
    where = f"{fault.where}: " if fault.where else ""
    return replace(fault, key="values", where="", message=f"{where}{fault.key}: {fault.message}")


VERBS = (submit, status, list_verb, logs, wait, delete, diff, doctor)
