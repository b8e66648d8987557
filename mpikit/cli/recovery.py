# SPDX-License-Identifier: Apache-2.0
"""The commands that help a running job over a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpikit.cli.context import CommandContext, Session
from mpikit.cli.help import Verb
from mpikit.cli.options import job_options, output_option, submit_options, time_span
from mpikit.cli.view import show_result
from mpikit.errors import JobError, one_fault
from mpikit.text.terminal import show_data, talk

if TYPE_CHECKING:
    from mpikit.kube.resources import MPIJob


@click.command(cls=Verb)
@click.argument("name", required=False)
@output_option
@click.option("--exclude", multiple=True, metavar="NODE", help="Move the workers off this node. Can be repeated.")
@click.option("--timeout", default="10m", metavar="SPAN", show_default=True, help="Longest wait for the pods to end.")
@click.option("--force", is_flag=True, help="Repair the job even if its label names another user.")
@job_options
@click.pass_obj
def repair(
    context: CommandContext, name: str | None, output: str, exclude: tuple[str, ...], timeout: str, force: bool
) -> None:
    """Delete the workers of a running job that have failed, so that they are created anew.

    The MPI Operator never replaces a failed or evicted worker. The launcher waits for the new one and continues from
    the last checkpoint. NAME defaults to your newest job.

    With --exclude, the job is suspended, its workers are kept off these nodes, and it is resumed: it saves, and
    continues on other nodes. A job has `restarts: {exclude: {max: N}}` such nodes at most. With
    `exclude: {auto: true}`, the nodes that the launcher's log names are taken.

    \b
        python generate.py repair ada-vit-16cards
        python generate.py repair ada-vit-16cards --exclude gaudi-07
    """
    from mpikit.lifecycle.repair import live_job, repair_job

    seconds = time_span(timeout, "--timeout")
    session = Session(context)
    name, user = session.chosen(name), None if force else session.user
    job = live_job(session.cluster, session.namespace, name, user)
    moved = _move(session, job, exclude or _suspects(session, job), seconds)
    done = repair_job(session.cluster, session.namespace, name, user)
    value = {"name": name, "namespace": session.namespace, "deleted": list(done.deleted), "advice": list(done.advice)}
    lines = [*moved, *(f'pod "{pod}" deleted' for pod in done.deleted)]
    text = "\n".join(lines) or f"no worker of MPIJob {name} has failed"
    show_result(output, {**value, "excluded": moved}, lambda: text, list(done.deleted))
    talk(*done.advice)


def _suspects(session: Session, job: MPIJob) -> tuple[str, ...]:
    """Return the nodes that the launcher names, as many as the job may still exclude, if it excludes them by itself."""
    from mpikit.kube.pods import ordered
    from mpikit.kube.resources import RESUMING
    from mpikit.status.snapshot import pods_of
    from mpikit.status.suspects import read_suspects

    pods = ordered(pods_of(session.cluster, session.namespace, job.name)) if job.exclude_auto else ()
    launchers = [pod.name for pod in pods if pod.role == "launcher" and pod.started]
    found = read_suspects(session.cluster, job, launchers[-1]) if launchers else {}
    talk(*(f"node {node} {why}" for node, why in found.items()))
    taken = list(found)[: max(0, job.exclude_max - len(job.excluded))]
    if left := [node for node in found if node not in taken]:
        talk(f"not excluded: {', '.join(left)}; restarts.exclude.max is {job.exclude_max}")
    return (*job.excluded, *taken) if taken or RESUMING in job.annotations else ()


def _move(session: Session, job: MPIJob, nodes: tuple[str, ...], seconds: float) -> list[str]:
    """Keep the workers off these nodes; return a line about it, or nothing without nodes."""
    from mpikit.lifecycle.exclude import exclude, exclusion_of
    from mpikit.preflight.nodes import hostnames, moves

    if not nodes:
        return []
    known = hostnames(session.cluster)
    if unknown := [node for node in nodes if known and node not in known]:
        raise one_fault("", f"this cluster has no node {', '.join(unknown)}", "kubectl get nodes", "--exclude")
    plan = exclusion_of(job, nodes, known)
    if plan.done:
        return [f"MPIJob {job.name} excludes {', '.join(plan.nodes)} already"]
    check = moves(session.cluster, job.name, session.namespace, plan.template, job.workers)
    if check.severity == "fault":
        raise JobError(f"nothing was changed: without {', '.join(plan.nodes)} {check.message}", check.fix)
    talk(f"{check.message}{f'; {check.fix}' if check.fix else ''}", *plan.steps)
    exclude(session.cluster, plan, seconds, talk)
    return [f"MPIJob {job.name} excludes {', '.join(plan.nodes)}"]


@click.command(cls=Verb)
@submit_options
@click.pass_obj
def rbac(context: CommandContext) -> None:
    """Print the rights that a job needs to replace its failed workers by itself.

    With `restarts: {replaceWorkers: true}` the launcher deletes a worker pod that has failed, so that the MPI Operator
    creates it anew. Its service account may read and delete the workers of this job, and nothing else. Creating a Role
    needs the rights of a namespace's administrator.

    \b
        python generate.py rbac --set restarts.replaceWorkers=true | kubectl apply -f -
    """
    from mpikit.render.renderer import render_rbac

    loaded = context.load()
    loaded.require_user()
    namespace = context.namespace or loaded.job.namespace or Session(context).namespace
    show_data(render_rbac(loaded.job, namespace))
    if not loaded.job.replaces_workers:
        talk("the launcher uses these rights with --set restarts.replaceWorkers=true only")


RECOVERY = (repair, rbac)
